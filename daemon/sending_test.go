package daemon

import (
	"testing"
	"time"

	"repld/change"
	"repld/wire"
)

// TestWaiting: what of the standby's word tells a primary with a full journal that only
// another barrier gets it on.
func TestWaiting(t *testing.T) {
	at := func(seq uint64) change.BarrierID { return change.BarrierID{Epoch: 1, Seq: seq} }
	const now = time.Hour
	for _, c := range []struct {
		name  string
		said  wire.Progress
		cuts  []cut
		down  bool
		vain  int
		idle  time.Duration // since anything moved
		stirs bool          // but the standby has said something new
		want  bool
	}{
		{name: "nothing is to be applied", said: wire.Progress{Received: at(2), Applied: at(2)}},
		{name: "being applied", said: wire.Progress{Received: at(2)}, cuts: []cut{{id: at(1)}, {id: at(2)}}, want: true},
		{name: "on its way", said: wire.Progress{Received: at(1), Lacks: at(1)}, cuts: []cut{{id: at(1)}, {id: at(2)}}, want: true},
		{name: "on its way, and nothing was heard of it for long", said: wire.Progress{Received: at(1)}, cuts: []cut{{id: at(2)}}, idle: stuckAfter},
		{name: "on its way for long", said: wire.Progress{Received: at(1)}, cuts: []cut{{id: at(2)}}, idle: stuckAfter, stirs: true, want: true},
		{name: "in the base", said: wire.Progress{Phase: wire.PhaseSeeding, Durable: 70}, cuts: []cut{{id: at(1), end: 50}, {id: at(2), end: 70}}},
		{name: "in the base, as the one before was", said: wire.Progress{Phase: wire.PhaseSeeding, Durable: 70}, cuts: []cut{{id: at(2), end: 70}}, vain: 1, want: true},
		{name: "behind the base", said: wire.Progress{Phase: wire.PhaseSeeding, Durable: 70}, cuts: []cut{{id: at(1), end: 50}, {id: at(2), end: 71}}, want: true},
		{name: "received behind the base", said: wire.Progress{Phase: wire.PhaseSeeding, Durable: 71, Received: at(2)}, cuts: []cut{{id: at(2), end: 71}}, want: true},
		{name: "the last but one lacks data", said: wire.Progress{Received: at(2), Lacks: at(1)}, cuts: []cut{{id: at(1)}, {id: at(2)}}, want: true},
		{name: "the newest lacks data", said: wire.Progress{Received: at(2), Lacks: at(2)}, cuts: []cut{{id: at(1)}, {id: at(2)}}},
		{name: "the newest lacks data of a database", said: wire.Progress{Received: at(1), Lacks: at(2)}, cuts: []cut{{id: at(1)}, {id: at(2)}}},
		{name: "so did those before", said: wire.Progress{Received: at(2), Lacks: at(2)}, cuts: []cut{{id: at(2)}}, vain: 2, idle: 2 * time.Second, want: true},
		{name: "so did those before, for a while", said: wire.Progress{Received: at(2), Lacks: at(2)}, cuts: []cut{{id: at(2)}}, vain: 2, idle: 3 * time.Second},
		{name: "so did very many before", said: wire.Progress{Received: at(2), Lacks: at(2)}, cuts: []cut{{id: at(2)}}, vain: 200, idle: stuckAfter},
		{name: "lacks data, paused", said: wire.Progress{Received: at(2), Lacks: at(2), Phase: wire.PhasePaused}, cuts: []cut{{id: at(2)}}, want: true},
		{name: "lacks data, no link", said: wire.Progress{Received: at(2), Lacks: at(2)}, cuts: []cut{{id: at(2)}}, down: true, want: true},
		{name: "nothing moves", said: wire.Progress{Received: at(2)}, cuts: []cut{{id: at(2)}}, idle: stuckAfter},
		{name: "nothing moves, paused", said: wire.Progress{Received: at(2), Phase: wire.PhasePaused}, cuts: []cut{{id: at(2)}}, idle: stuckAfter, want: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.said.Phase == 0 {
				c.said.Phase = wire.PhaseStreaming
			}
			p := &sending{progress: c.said, progressAt: now, movedAt: now - c.idle, cuts: c.cuts, vain: c.vain}
			if c.stirs {
				p.stirredAt = now
			}
			if got := p.waits(!c.down, now); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
