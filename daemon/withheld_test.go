package daemon

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/change"
	"repld/control"
	"repld/role"
)

// TestWithheldByPause: what a paused standby has received is listed by barriers, and the
// ledger of a failover says that the pause gives it up, and what helps.
func TestWithheldByPause(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	one := control.ApplyRequest{Group: "one"}
	if _, err := standby.client.Pause(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "primary", "a", "file"), "received only")
	b, err := primary.client.Barrier(t.Context(), control.BarrierRequest{Group: "one", Wait: control.BarrierReceived, Timeout: control.Seconds(20 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	standby.until("the barrier is received", func() bool { return standby.status().Groups[0].Barriers.Received.ID == b.ID })
	for _, limit := range []int{0, 1} {
		list, err := standby.client.Barriers(t.Context(), control.BarriersRequest{Group: "one", Limit: limit})
		if err != nil || list.Barriers[0].ID != b.ID || list.Barriers[0].State != control.BarrierReceived || list.Barriers[0].Rewindable {
			t.Errorf("at most %d barriers: %+v, %v; want %s first", limit, list, err, b.ID)
		}
	}
	ledger := func() role.GroupLedger {
		reply := standby.change(control.RoleRequest{Verb: control.VerbFailover, DryRun: true})
		const said = "applying is paused: `replctl resume` before the failover applies it"
		if g := reply.Ledger.Groups[0]; strings.Contains(reply.Ledger.Text(), said) != (g.WithheldBy == role.ByPause) {
			t.Errorf("withheld by %q, the ledger says\n%s", g.WithheldBy, reply.Ledger.Text())
		}
		if !strings.Contains(reply.Plan, "unless applying is paused") {
			t.Errorf("the plan:\n%s", reply.Plan)
		}
		return reply.Ledger.Groups[0]
	}
	if g := ledger(); g.Withheld != b.ID || g.WithheldBy != role.ByPause || g.Barrier.Compare(b.ID) >= 0 || g.Barriers == 0 {
		t.Errorf("while paused: %+v, want barrier %s withheld", g, b.ID)
	}
	if g := ledger(); len(g.Files) == 0 || strings.Contains(strings.Join(g.Files, " "), "//") {
		t.Errorf("the names of what is given up are %q", g.Files)
	}
	if _, err := standby.client.Resume(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	standby.until("the barrier is applied", func() bool { return standby.status().Groups[0].Barriers.Applied.ID.Compare(b.ID) >= 0 })
	if g := ledger(); g.WithheldBy != "" || g.Withheld != (change.BarrierID{}) || g.Barrier.Compare(b.ID) < 0 {
		t.Errorf("after the pause: %+v, want nothing withheld", g)
	}
}
