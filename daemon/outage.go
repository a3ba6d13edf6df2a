package daemon

import (
	"context"
	"time"

	"repld/control"
	"repld/lease"
	"repld/role"
)

// outageEvery is how often the policy for outages is asked at least.
const outageEvery = time.Second

// watchOutage fails over where the policy says so, until ctx ends.
func (r *roles) watchOutage(ctx context.Context) error {
	begun := r.clock.Mono()
	var failed *time.Duration // when the last automatic failover did
	for {
		_, changed := r.look()
		var d lease.Decision
		if k := r.coordination.keeper.Load(); k != nil {
			r.seeCoordination(ctx, k)
			d = lease.Decide(r.silence(k, begun, failed))
			r.mu.Lock()
			r.decision = d
			r.mu.Unlock()
		}
		if d.Failover {
			r.event(control.EventFailover, nil, "automatic failover: %s", d.Why)
			req := control.RoleRequest{Verb: control.VerbFailover}
			if _, err := r.change(ctx, req, decidedBy("automatic failover: "+d.Why), func(control.RoleProgress) {}); err != nil && ctx.Err() == nil {
				at := r.clock.Mono()
				failed = &at
				r.event(control.EventFailover, map[string]string{"failure": err.Error()}, "the automatic failover failed: %v", err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		wait := outageEvery
		if d.Again > 0 {
			wait = min(wait, d.Again)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// silence is what the policy is asked about.
func (r *roles) silence(k *lease.Keeper, begun time.Duration, failed *time.Duration) lease.Silence {
	s, status, now := r.now(), k.Status(), r.clock.Mono()
	q := lease.Silence{
		Coordinated: true, StandsBy: s.Role() == role.Standby && s.Plan.IsZero(), Barrier: r.complete(),
		// A peer that says that it would serve, but may not, is as good as silent.
		LinkUp: s.Link && !s.Heard.LacksLease(), Up: now - begun,
		Quorum: status.Answers, Held: status.Holder.ID != "" && status.Holder.ID != string(s.Self),
		Maintenance: r.maintenanceLeft(), FailoverAfter: r.conf.Coordination.FailoverAfter,
	}
	r.mu.Lock()
	q.Goodbye = max(r.gone-now, 0)
	if r.served != 0 {
		age := now - r.served
		q.Heard = &age
	}
	r.mu.Unlock()
	if failed != nil {
		age := now - *failed
		q.Failed = &age
	}
	return q
}

// noteServed notes that the peer is heard, and not only heard to be held.
func (r *roles) noteServed(h role.Hello) {
	if h.LacksLease() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.served, r.gone = r.clock.Mono(), 0
}
