package daemon

import (
	"path/filepath"
	"testing"
	"time"

	"repld/control"
)

// TestLagAfterRewind has both nodes say where a standby is that has gone back.
func TestLagAfterRewind(t *testing.T) {
	primary, standby, dir := services(t)
	at := func(text string) *control.BarrierReply {
		t.Helper()
		write(t, filepath.Join(dir, "primary", "a", "file"), text)
		b, err := primary.client.Barrier(t.Context(), control.BarrierRequest{Group: "one", Wait: control.BarrierApplied, Timeout: control.Seconds(20 * time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := at("good")
	at("bad")
	worst := at("worse")
	if _, err := standby.client.Rewind(t.Context(), control.RewindRequest{Group: "one", To: good.ID}); err != nil {
		t.Fatal(err)
	}
	holds(t, filepath.Join(dir, "secondary", "a", "file"), "good")
	for _, s := range []*service{primary, standby} {
		s.until("a lag of what was gone back behind", func() bool {
			g := s.status().Groups[0]
			b := g.Barriers
			return b.Applied != nil && b.Applied.ID == good.ID && b.Received != nil && b.Received.ID == worst.ID &&
				g.Phase == control.PhasePaused && g.Lag != nil && *g.Lag.Seconds > 0 && *g.Lag.Bytes > 0
		})
	}
	if _, err := standby.client.Resume(t.Context(), control.ApplyRequest{Group: "one"}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*service{primary, standby} {
		s.until("no lag", func() bool {
			g := s.status().Groups[0]
			return g.Barriers.Applied.ID == worst.ID && g.Lag != nil && *g.Lag.Seconds == 0 && *g.Lag.Bytes == 0
		})
	}
}
