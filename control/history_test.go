package control

import (
	"strings"
	"testing"

	"repld/change"
)

// TestHistoryCalls: requests arrive as they were meant, and wrong ones don't.
func TestHistoryCalls(t *testing.T) {
	b := newFake(t)
	c, _ := serve(t, b)
	ctx := t.Context()
	at := change.BarrierID{Epoch: 3, Seq: 812}
	if r, err := c.Rewind(ctx, RewindRequest{To: at}); err != nil || r.Group != "tree" || r.Barrier.ID != at || !r.Paused {
		t.Errorf("rewind: %+v, %v", r, err)
	}
	_, err := c.Rewind(ctx, RewindRequest{})
	wantExit(t, err, ExitUsage)
	_, err = c.Rewind(ctx, RewindRequest{Group: "other", To: at})
	wantExit(t, err, ExitUsage)
	if r, err := c.Restore(ctx, RestoreRequest{Path: "a", At: at, To: "/t"}); err != nil || strings.Join(r.Targets, "") != "/t/a" || r.NotPermitted == nil {
		t.Errorf("restore: %+v, %v", r, err)
	}
	for _, bad := range []RestoreRequest{{At: at, To: "/t"}, {Path: "a", To: "/t"}, {Path: "a", At: at}, {Path: "a", At: at, To: "relative"}} {
		_, err := c.Restore(ctx, bad)
		wantExit(t, err, ExitUsage)
	}
	if l, err := c.Salvages(ctx, SalvagesRequest{}); err != nil || l.Group != "tree" || l.Sets == nil || len(l.Sets) > 0 {
		t.Errorf("salvages: %+v, %v", l, err)
	}
	if l, err := c.Salvages(ctx, SalvagesRequest{ID: "1-2/repair ?", Limit: 7}); err != nil || l.Sets[0].ID != "1-2/repair ?" || l.Sets[0].Count != 7 {
		t.Errorf("salvage: %+v, %v", l, err)
	}
	if s, err := c.RemoveSalvage(ctx, RemoveSalvageRequest{ID: "1-2"}); err != nil || s.ID != "1-2" || s.By != "tree" || s.Reasons == nil {
		t.Errorf("remove salvage: %+v, %v", s, err)
	}
	if r, err := c.RestoreSalvage(ctx, RestoreSalvageRequest{ID: "1-2", To: "/t"}); err != nil || r.Targets[0] != "/t/1-2" {
		t.Errorf("restore salvage: %+v, %v", r, err)
	}
	_, err = c.RestoreSalvage(ctx, RestoreSalvageRequest{To: "/t"})
	wantExit(t, err, ExitUsage)
	_, err = c.RestoreSalvage(ctx, RestoreSalvageRequest{ID: "1-2", To: "t"})
	wantExit(t, err, ExitUsage)
	if l, err := c.Barriers(ctx, BarriersRequest{Find: "tree/a b"}); err != nil || l.Barriers[0].Version == nil || l.Barriers[0].Version.Kind != "tree/a b" {
		t.Errorf("find: %+v, %v", l, err)
	}
}
