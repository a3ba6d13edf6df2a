package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"repld/control"
	"repld/health"
	"repld/lease"
	"repld/role"
)

// coordination is what a node has beside its role where a third party decides which of
// the two may serve: the lease. Package lease has the rules that keep services from
// running without it.
type coordination struct {
	tls *tls.Config
	// keeper is nil until there is a peer, for the lease is the pair's.
	keeper atomic.Pointer[lease.Keeper]
	// stopped: services and databases have been stopped, and none have been started since.
	stopped atomic.Bool
}

// errNoKeeper keeps services from starting before there is a lease to be had.
var errNoKeeper = errors.New("the coordination isn't asked yet: this node has no peer")

// openCoordination reads what is needed to ask etcd.
func (r *roles) openCoordination() (err error) {
	etcd := r.conf.Coordination.Etcd
	r.policy.Coordinated = etcd != nil
	if etcd == nil {
		return nil
	}
	if r.coordination.tls, err = lease.TLS(etcd.CA, etcd.Cert, etcd.Key); err != nil {
		return control.Errorf(control.ExitUsage, "coordination: %w", err).WithHint("see ca, cert and key under coordination.etcd in the configuration")
	}
	return nil
}

// keepLease keeps the lease of the pair, while this node wants it, until ctx ends.
func (r *roles) keepLease(ctx context.Context) error {
	for {
		s, err := r.await(ctx, func(s role.State) bool { return s.Peer != "" })
		if err != nil {
			return err
		}
		if err := r.keepLeaseWith(ctx, s.Peer); err != nil {
			return err
		}
	}
}

// keepLeaseWith does so as long as the peer is the same.
func (r *roles) keepLeaseWith(ctx context.Context, peer role.ID) error {
	c := r.conf.Coordination
	self := string(r.now().Self)
	k, err := lease.New(lease.Options{
		Endpoints: c.Etcd.Endpoints, TLS: r.coordination.tls, Timing: c.Timing,
		Self: lease.Identity{ID: self, Name: r.name}, Pair: lease.PairName(self, string(peer)),
		Watchdog: c.Watchdog, Logger: r.logger, Tell: r.hearLease,
	})
	if err != nil {
		return control.Errorf(control.ExitUsage, "coordination: %w", err)
	}
	r.mu.Lock()
	r.coordination.keeper.Store(k)
	if r.coordination.stopped.Load() {
		k.Stopped()
	}
	k.Want(r.state.WantsLease())
	r.mu.Unlock()

	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	done := make(chan error, 1)
	go func() { done <- k.Run(running) }()
	_, err = r.await(ctx, func(s role.State) bool { return s.Peer != peer })
	if err == nil {
		// The lease with the former peer says nothing about the new one: services stop
		// until that of the new pair is held.
		r.loseLease()
		if err = r.awaitStopped(ctx, k); err == nil {
			r.barFormer(ctx, k)
		}
		k.Release()
	}
	end()
	return errors.Join(err, <-done)
}

// barFormer keeps the former peer, which may not hear of the new pair, from taking the lease
// that nobody keeps any more.
func (r *roles) barFormer(ctx context.Context, k *lease.Keeper) {
	err := k.Bar(ctx)
	if err == nil || ctx.Err() != nil || errors.Is(err, lease.ErrNotHeld) && r.now().Stored.Role != role.Production {
		return
	}
	r.event(control.EventLeaseLost, nil, "the lease of the former pair could not be barred, so that the former peer, if it runs on, "+
		"will take over by itself: stop repld there. %v", err)
}

// awaitStopped waits until no service of this node may run.
func (r *roles) awaitStopped(ctx context.Context, k *lease.Keeper) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for k.Status().MayRun {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

// hearLease takes what the keeper tells.
func (r *roles) hearLease(e lease.Event) {
	if !e.Gained {
		r.loseLease()
		r.event(control.EventLeaseLost, nil, "the lease is lost: %s", e.Why)
		return
	}
	recorded := role.Epoch{Number: e.Epoch.Number, Promoter: role.ID(e.Epoch.Promoter), Nonce: role.Nonce(e.Epoch.Nonce)}
	r.tell(role.LeaseGained{Epoch: recorded})
	r.event(control.EventLeaseGained, map[string]string{"epoch": fmt.Sprint(recorded.Number)}, "this node holds the lease; the highest recorded epoch is %d", recorded.Number)
}

// loseLease has the services stop. Where even the state can't be stored they stop all
// the same, for the peer may take the lease soon.
func (r *roles) loseLease() {
	err := r.driver.Tell(role.LeaseLost{})
	if err == nil {
		return
	}
	r.logger.Error("the loss of the lease could not be stored; services and databases are stopped all the same", "error", err)
	if err := r.Hooks(context.Background(), role.DemoteHooks, r.now()); err != nil {
		r.logger.Error("stop services and databases", "error", err)
	}
}

// starting is called right before databases are opened for writing and before the promote
// hooks; an error keeps them from it.
func (r *roles) starting() error {
	if !r.policy.Coordinated {
		return nil
	}
	k := r.coordination.keeper.Load()
	if k == nil {
		return errNoKeeper
	}
	r.coordination.stopped.Store(false)
	return k.Starting()
}

// hasStopped is called when neither services nor databases of this node run.
func (r *roles) hasStopped() {
	r.coordination.stopped.Store(true)
	if k := r.coordination.keeper.Load(); k != nil {
		k.Stopped()
	}
}

// awaitLease waits until this node holds the lease, as long as a peer that is gone may
// still have it.
func (r *roles) awaitLease(ctx context.Context) (*lease.Keeper, error) {
	k := r.coordination.keeper.Load()
	if k == nil {
		return nil, errNoKeeper
	}
	t := r.conf.Coordination.Timing
	within, cancel := context.WithTimeout(ctx, t.TTL+t.Hold)
	defer cancel()
	if err := k.Wait(within); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return k, nil
}

// doPromote writes the epoch down with the coordination before it is this node's, so that
// the peer finds it even if it never hears of this node.
func (r *roles) doPromote(ctx context.Context, s role.State) error {
	if err := r.noteOpening(s); err != nil {
		return err
	}
	if !r.policy.Coordinated {
		return nil
	}
	k, err := r.awaitLease(ctx)
	if err != nil {
		return err
	}
	if err := k.Record(ctx, leaseEpoch(s.Plan.Target)); err != nil {
		return fmt.Errorf("record epoch %d: %w", s.Plan.Target.Number, err)
	}
	return nil
}

func leaseEpoch(e role.Epoch) lease.Epoch {
	return lease.Epoch{Number: e.Number, Promoter: string(e.Promoter), Nonce: string(e.Nonce)}
}

// serves reports whether this node serves at this moment: the lease ends by the clock,
// before anybody has told the role.
func (r *roles) serves(s role.State) bool {
	if !s.Serves() || !r.policy.Coordinated {
		return s.Serves()
	}
	k := r.coordination.keeper.Load()
	return k != nil && k.Held()
}

// coordinationStatus is what status shows of it; nil where there is none.
func (r *roles) coordinationStatus() *control.Coordination {
	if !r.policy.Coordinated {
		return nil
	}
	c := &control.Coordination{}
	if k := r.coordination.keeper.Load(); k != nil {
		s := k.Status()
		c.Answers, c.Held, c.Holder, c.Watchdog = s.Answers, s.Held, s.Holder.Name, s.Armed
		if s.Err != nil {
			c.Error = s.Err.Error()
		}
	}
	r.mu.Lock()
	c.Failover = r.decision.Why
	r.mu.Unlock()
	return c
}

// seeCoordination does what the keeper's state asks for beside its events.
func (r *roles) seeCoordination(ctx context.Context, k *lease.Keeper) {
	s, now := k.Status(), r.now()
	switch {
	case s.Answers:
		r.board.Resolve(health.CoordinationDown, "", "")
	case s.Silent > r.conf.Coordination.Timing.TTL:
		r.board.Raise(health.Condition{Code: health.CoordinationDown, Text: fmt.Sprintf("etcd has not answered for %v: %v", s.Silent.Round(time.Second), s.Err)})
	}
	if now.Phase == role.Asking && s.Answers && s.Holder.ID != "" && s.Holder.ID != string(now.Self) {
		// Services that an earlier daemon has left running must not wait for the peer's answer.
		r.loseLease()
	}
	if s.Held && now.Stored.Role == role.Production && s.Epoch.Number < now.Epoch.Number {
		if err := k.Record(ctx, leaseEpoch(now.Epoch)); err != nil && ctx.Err() == nil {
			r.logger.Warn("record this node's epoch", "error", err)
		}
	}
}
