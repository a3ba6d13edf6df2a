package view

import (
	"bytes"
	"strings"
	"testing"

	"repld/change"
	"repld/control"
)

// TestStatusOfDatabases: a barrier's line has where the databases stood at it.
func TestStatusOfDatabases(t *testing.T) {
	barrier := control.BarrierOf(change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: 812}, CutAt: now, Databases: []change.DatabasePosition{
		{Name: "sounz", Engine: change.EnginePostgres, Position: change.StreamPosition{Chapter: 1, Offset: 0x1a2b3c8}},
		{Name: "shop", Engine: change.EngineMariaDB, Position: change.StreamPosition{Chapter: 42, Offset: 1337}},
	}, Rung: change.RungOptimistic})
	for _, s := range []control.Status{
		{Role: control.RoleProduction, Groups: []control.Group{{Name: "tree", Barriers: control.GroupBarriers{Captured: &barrier}}}},
		{Role: control.RoleStandby, Groups: []control.Group{{Name: "tree", Barriers: control.GroupBarriers{Applied: &barrier}}}},
	} {
		var b bytes.Buffer
		const want = ", cut 0 s ago, shop 000042:1337, sounz 0/1A2B3C8\n"
		if err := Status(&b, &s, now, nil); err != nil || strings.Count(b.String(), want) != 1 {
			t.Errorf("%s: %v, no %q in\n%s", s.Role, err, want, b.String())
		}
	}
	if text := Databases(nil); text != "" {
		t.Errorf("of no databases: %q", text)
	}
}
