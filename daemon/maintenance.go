package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"repld/control"
	"repld/health"
	"repld/wire"
)

// maintenanceFile is a planned outage that an operator has announced. It is kept as a
// moment of the wall clock, because a machine may be away meanwhile.
type maintenanceFile struct {
	Until time.Time `yaml:"until" json:"until"`
	// Set is when that was said, so that of two announcements the later one holds.
	Set time.Time `yaml:"set" json:"set"`
}

const (
	maintenanceName = "maintenance.yaml"
	// noteMaintenance tells the peer of it.
	noteMaintenance = "maintenance"
)

// maintenanceMost bounds a planned outage; who needs longer repeats it.
const maintenanceMost = 7 * 24 * time.Hour

// plannedCodes are the conditions that a planned outage brings, which nobody is alarmed of.
var plannedCodes = []health.Code{health.LinkDown, health.BarrierLate}

// Maintenance announces a planned outage, or its end; see [control.Backend].
func (n *node) Maintenance(ctx context.Context, req control.MaintenanceRequest) (*control.MaintenanceReply, error) {
	now := n.clock.Now().UTC().Round(0) // without a reading of the monotonic clock
	m := maintenanceFile{Set: now}
	n.mu.Lock()
	if last := n.maintenance.Set; !m.Set.After(last) {
		m.Set = last.Add(1) // said by the clock of a peer that is ahead
	}
	n.mu.Unlock()
	if !req.End {
		if req.For <= 0 || req.For.Duration() > maintenanceMost {
			return nil, control.Errorf(control.ExitUsage, "--for is %s, want more than 0 and at most %s", req.For.Duration(), maintenanceMost)
		}
		m.Until = now.Add(req.For.Duration())
	}
	if err := n.setMaintenance(m); err != nil {
		return nil, err
	}
	reply := &control.MaintenanceReply{Node: n.name, Until: control.TimeOf(m.Until)}
	// An answer, not a note: the operator is told whether the peer knows it.
	if err := n.askPeer(ctx, noteMaintenance, m, nil); err != nil {
		reply.PeerError = err.Error()
	}
	return reply, nil
}

// setMaintenance stores an announcement, unless it or a later one is known.
func (n *node) setMaintenance(m maintenanceFile) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !m.Set.After(n.maintenance.Set) {
		return nil
	}
	if err := n.state.store(maintenanceName, m); err != nil {
		return err
	}
	n.maintenance = m
	n.alerter.Hold(plannedCodes, m.Until)
	text := "maintenance has ended: there are alerts and automatic failover again"
	if left := m.Until.Sub(n.clock.Now()); left > 0 {
		text = fmt.Sprintf("maintenance for %s: no alerts of the outage, and no automatic failover", left.Round(time.Second))
	}
	n.event(control.EventMaintenance, nil, "%s", text)
	return nil
}

// loadMaintenance reads what was announced before this start.
func (n *node) loadMaintenance() error {
	if _, err := n.state.load(maintenanceName, &n.maintenance); err != nil {
		return err
	}
	n.alerter.Hold(plannedCodes, n.maintenance.Until)
	return nil
}

// maintenanceLeft is how long a planned outage still lasts; 0 = there is none.
func (n *node) maintenanceLeft() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return max(min(n.maintenance.Until.Sub(n.clock.Now()), maintenanceMost), 0)
}

// maintenanceStatus is what status shows of it; nil while there is none.
func (n *node) maintenanceStatus() *control.Maintenance {
	left := control.Seconds(n.maintenanceLeft())
	if left == 0 {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return &control.Maintenance{Until: control.TimeOf(n.maintenance.Until), Left: left}
}

// hearMaintenance takes an announcement of the peer.
func (n *node) hearMaintenance(body []byte) error {
	var m maintenanceFile
	if err := json.Unmarshal(body, &m); err != nil {
		return fmt.Errorf("the peer's %s: %w", noteMaintenance, err)
	}
	return n.setMaintenance(m)
}

// tellMaintenance tells a peer that has just come what holds here.
func (n *node) tellMaintenance() {
	n.mu.Lock()
	m := n.maintenance
	n.mu.Unlock()
	if m.Set.IsZero() {
		return
	}
	if body, err := json.Marshal(m); err == nil {
		n.roles.post(&wire.PairMessage{Kind: wire.PairNote, Verb: noteMaintenance, Body: body})
	}
}
