package daemon

import (
	"context"
	"testing"
	"time"

	"repld/change"
	"repld/config"
	"repld/dblog"
)

// placedGate is a gate that stands somewhere.
type placedGate struct {
	dblog.Standby
	gate, replayed uint64
	connected      bool
}

func at(offset uint64) change.StreamPosition {
	return change.StreamPosition{Chapter: 1, Offset: offset}
}

func (g placedGate) Position() change.StreamPosition { return at(g.gate) }

func (g placedGate) Replayed() (change.StreamPosition, bool) { return at(g.replayed), g.connected }

// TestReplicaAtTheBarrier is one that is connected, at the barrier, and may go no further.
func TestReplicaAtTheBarrier(t *testing.T) {
	c := change.Certificate{Databases: []change.DatabasePosition{{Name: "other", Position: at(1)}, {Name: "main", Position: at(50)}}}
	for want, list := range map[bool][]placedGate{
		true:  {{gate: 50, replayed: 50, connected: true}, {gate: 50, replayed: 51, connected: true}},
		false: {{gate: 50, replayed: 50}, {gate: 50, replayed: 49, connected: true}, {gate: 51, replayed: 51, connected: true}, {gate: 40, replayed: 40, connected: true}},
	} {
		for _, g := range list {
			r := &replica{conf: config.Database{Name: "main"}, gate: g}
			if got := stands(r, c); got != want {
				t.Errorf("%+v: found %v", g, got)
			}
			if !stands(r, change.Certificate{}) {
				t.Error("a barrier without the database tells of it")
			}
		}
	}
	asked := 0
	if !comesTrue(t.Context(), time.Minute, func() bool { asked++; return asked > 2 }) || asked != 3 {
		t.Errorf("what comes true is asked for %d times", asked)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if comesTrue(ended, time.Minute, func() bool { return false }) {
		t.Error("what never comes true has come true")
	}
}
