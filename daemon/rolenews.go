package daemon

import (
	"fmt"
	"strings"

	"repld/health"
	"repld/role"
)

// announced is what alerts have told last about the role.
type announced struct {
	status role.Status
	epoch  role.Epoch
}

// decidedMost bounds how many orders it is remembered of who has given them.
const decidedMost = 64

// noteDecider remembers who has given an order.
func (r *roles) noteDecider(order role.Nonce, by decidedBy) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.decided) >= decidedMost {
		clear(r.decided)
	}
	r.decided[order] = by
}

// announce has alerts tell of a change of roles: once it is one, not step by step. r.mu
// is held.
func (r *roles) announce(before, after role.State) {
	now := announced{after.Status(), after.Epoch}
	ended := !before.Plan.IsZero() && after.Plan.ID != before.Plan.ID
	failure := ""
	if ended {
		failure = before.Plan.Failure
	}
	switch {
	case after.Phase == role.Asking || after.Phase == role.Fencing:
		return // it doesn't know yet what it is
	case !after.Plan.IsZero() && after.Stored.Role != role.Production, after.Plan.Back, after.Plan.Kind == role.Cutover:
		return // what comes of the plan is told
	case now == r.announced && failure == "":
		return
	}
	was := r.announced
	r.announced = now
	var text strings.Builder
	fmt.Fprintf(&text, "%s is %s, in epoch %d; it was %s, in epoch %d", r.name, now.status, now.epoch.Number, was.status, was.epoch.Number)
	plan := before.Plan
	if plan.IsZero() {
		plan = after.Plan
	}
	by, known := r.decided[plan.ID]
	if !known {
		by, known = r.decided[after.Epoch.Nonce]
	}
	switch {
	case plan.IsZero():
	case known:
		fmt.Fprintf(&text, "; %s, decided by %s", plan.Kind, by)
	default:
		fmt.Fprintf(&text, "; %s, decided by the peer", plan.Kind)
	}
	if why := after.Why(); why != "" {
		text.WriteString("; " + why)
	}
	if failure != "" {
		text.WriteString("; it failed: " + failure)
	}
	c := health.Condition{Code: health.RoleChanged}
	if now.status == role.StatusDown || after.Alone || failure != "" {
		c.Severity = health.Warning
	}
	if plan.Kind == role.Failover && r.ledgerText != "" && after.Stored.Role == role.Production {
		text.WriteString("\n" + strings.TrimSpace(r.ledgerText))
		r.ledgerText = ""
	}
	c.Text = text.String()
	r.board.Announce(c)
}
