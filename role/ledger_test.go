package role

import (
	"testing"
	"time"

	"repld/change"
)

// TestLedgerLine has a ledger in one line, as events have it, with no seams of the text.
func TestLedgerLine(t *testing.T) {
	cut := change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: 8}, CutAt: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)}
	l := LedgerOf(State{}, Epoch{Number: 2}, ByClaim, Facts{Node: "b", Peer: "a", Groups: []GroupFacts{
		{Group: "shop", Complete: cut, Captured: change.BarrierID{Epoch: 1, Seq: 9}, Files: []string{"tree/group one"}, Bytes: 5},
		{Group: "web", Complete: cut},
	}})
	const want = "failover of b to epoch 2: the old primary a was not heard since this node started; what it changed is not known here; " +
		"group shop: promoted at barrier 1-8, cut 2026-11-21T08:00:00Z; given up: 1 barrier up to 1-9; given up: changes of 1 file, 5 bytes: \"tree/group one\"; " +
		"group web: promoted at barrier 1-8, cut 2026-11-21T08:00:00Z"
	if found := l.Line(); found != want {
		t.Errorf("found\n%s\nwant\n%s", found, want)
	}
}
