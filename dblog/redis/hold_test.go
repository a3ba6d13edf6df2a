package redis

import (
	"strconv"
	"testing"

	"repld/change"
	"repld/dblog"
)

// TestReplicaIsHeldAtTheBarrier has the replica at exactly what there was at the barrier, to
// the byte, and what comes after it stays away.
func TestReplicaIsHeldAtTheBarrier(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	if got := p.replica.must("GET", "first"); got != "1" {
		t.Fatalf("the replica has first = %q", got)
	}
	for i := range 20 {
		p.primary.must("SET", "k"+strconv.Itoa(i), "v")
	}
	point := p.Barrier()
	p.primary.must("SET", "late", "1")
	later, err := p.Cut()
	must(t, err)
	p.Arrived(later)
	for what, want := range map[string]string{"DBSIZE": "21", "GET late": ""} {
		var got string
		if what == "DBSIZE" {
			got = p.replica.must("DBSIZE")
		} else {
			got = p.replica.must("GET", "late")
		}
		if got != want {
			t.Errorf("%s on the replica is %q, want %q", what, got, want)
		}
	}
	if at := p.replica.offset(); at != show(point.Position) {
		t.Errorf("the replica is at %s, the barrier at %s", at, show(point.Position))
	}
	p.Advance(later)
	if got := p.replica.must("GET", "late"); got != "1" {
		t.Errorf("late is %q on the replica", got)
	}
	if at, ok := p.gate.Replayed(); !ok || at != later.Position {
		t.Errorf("replayed is %v, %v, want %v", at, ok, later.Position)
	}
	wantErr(t, p.gate.Release(point), dblog.ErrNotReached)
	wantErr(t, p.gate.Release(dblog.Point{Position: change.StreamPosition{Chapter: later.Position.Chapter + 1, Offset: 5}}), dblog.ErrNeedsSeed)
	if list := p.source.Health(); len(list) > 0 {
		t.Errorf("conditions of the source: %v", list)
	}
}
