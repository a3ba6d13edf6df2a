package daemon

import (
	"testing"
	"time"

	"repld/control"
)

// TestMaintenance announces an outage on a node whose clock is behind, has the other one
// learn of it later, and ends it there, where the clock says that it never began.
func TestMaintenance(t *testing.T) {
	t.Parallel()
	primary, standby, _ := services(t)
	for _, long := range []time.Duration{0, -time.Second, 200 * time.Hour} {
		if _, err := primary.client.Maintenance(t.Context(), control.MaintenanceRequest{For: control.Seconds(long)}); control.ExitOf(err) != control.ExitUsage {
			t.Errorf("an outage of %v: %v", long, err)
		}
	}
	stop(t, standby)
	primary.until("the link's end", func() bool { return primary.status().Peer.Link == control.LinkDown })
	primary.clock.jump(10 * time.Minute)
	reply, err := primary.client.Maintenance(t.Context(), control.MaintenanceRequest{For: control.Seconds(time.Hour)})
	if err != nil || reply.PeerError == "" {
		t.Errorf("without the peer: %+v, %v", reply, err)
	}
	standby = again(t, standby)
	standby.until("the peer's word", func() bool { return standby.status().Maintenance != nil })

	reply, err = standby.client.Maintenance(t.Context(), control.MaintenanceRequest{End: true})
	if err != nil || reply.PeerError != "" || !reply.Until.IsZero() {
		t.Errorf("the end: %+v, %v", reply, err)
	}
	for _, s := range []*service{primary, standby} {
		if m := s.status().Maintenance; m != nil {
			t.Errorf("%s still says %+v", s.conf.Node, m)
		}
	}
	stop(t, primary)
	if m := again(t, primary).status().Maintenance; m != nil {
		t.Errorf("after a restart %+v", m)
	}
}
