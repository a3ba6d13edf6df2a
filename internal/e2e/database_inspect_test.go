package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"repld/change"
	"repld/control"
	"repld/internal/pairtest"
)

// inspector has a standby apply one barrier at a time, and compares files and rows at
// each while all stands still. It goes on whatever happens to daemons, servers and the
// link; changes of role must not happen meanwhile.
type inspector struct {
	k                *databaseSoak
	primary, standby *control.Client
	replica          database
	tree             string
	checker          pairtest.Checker
	samples          []sample
	noticed          time.Time // conditions, last
	cancel           context.CancelFunc
	done             chan struct{}
	err              error // valid once done is closed
}

// sample is how far writers were at a moment.
type sample struct {
	asked, told time.Time
	first       int
	pairtest.State
}

const (
	// wholeEvery is after how many checks all files are read, and all rows, those of
	// writers that have ended too.
	wholeEvery = 50
	// letGo is how long the standby may begin to apply the barrier that it has.
	letGo = 4 * time.Millisecond
	// lookEvery is how often it is looked whether a barrier came or a replica is there.
	lookEvery = 6 * time.Millisecond
)

// inspect starts an inspector of the present roles.
func (k *databaseSoak) inspect() {
	k.t.Helper()
	k.following() // before it does, it may need a barrier after the first
	ctx, cancel := context.WithCancel(k.t.Context())
	i := &inspector{k: k, primary: k.primary.client(), standby: k.standby.client(), replica: k.replica, tree: k.to,
		cancel: cancel, done: make(chan struct{})}
	k.inspector, k.appliedBefore = i, k.applied()
	k.t.Cleanup(cancel)
	go func() {
		defer close(i.done)
		if i.err = i.run(ctx); ctx.Err() != nil && errors.Is(i.err, ctx.Err()) {
			i.err = nil
		}
		i.primary.Close()
		i.standby.Close()
	}()
}

func (n *node) client() *control.Client {
	return control.NewClient(n.state+".sock", control.ClientOptions{})
}

// letRun ends the inspector, and lets the standby run.
func (k *databaseSoak) letRun() {
	k.t.Helper()
	k.inspector.cancel()
	<-k.inspector.done
	k.counts.alone += k.applied() - k.appliedBefore
	k.appliedBefore = k.applied()
	k.judge()
	k.standby.must("resume")
}

// judge fails the test if the inspector has found something.
func (k *databaseSoak) judge() {
	k.t.Helper()
	select {
	case <-k.inspector.done:
		if k.inspector.err != nil {
			k.t.Fatal(k.inspector.err)
		}
	default:
	}
}

func (i *inspector) run(ctx context.Context) error {
	var last change.BarrierID
	for ctx.Err() == nil {
		i.sample()
		b, err := i.next(ctx, last)
		if err != nil {
			if err := wait(ctx, 50*time.Millisecond); err != nil { // a daemon is away
				return err
			}
			continue
		}
		if b == nil {
			continue
		}
		if err := i.look(ctx, b); err != nil {
			return err
		}
		last = b.ID
	}
	return ctx.Err()
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// next lets the standby apply what it has, pauses it, and returns the barrier where it
// stands; nil if there is no other one than last.
func (i *inspector) next(ctx context.Context, last change.BarrierID) (*control.Barrier, error) {
	for { // until there is something to apply
		g, err := i.group(ctx)
		if err != nil {
			return nil, err
		}
		r, a := g.Barriers.Received, g.Barriers.Applied
		if g.Phase != control.PhasePaused || r != nil && (a == nil || r.ID.Compare(a.ID) > 0) {
			break
		}
		if a != nil && a.ID != last {
			return a, nil
		}
		if err := wait(ctx, lookEvery); err != nil {
			return nil, err
		}
	}
	begun := time.Now()
	if _, err := i.standby.Resume(ctx, control.ApplyRequest{}); err != nil {
		return nil, err
	}
	if err := wait(ctx, letGo); err != nil {
		return nil, err
	}
	if _, err := i.standby.Pause(ctx, control.ApplyRequest{}); err != nil {
		return nil, err
	}
	g, err := i.group(ctx)
	if err != nil || g.Barriers.Applied == nil || g.Barriers.Applied.ID == last {
		return nil, err
	}
	i.k.took(phaseApply, begun)
	return g.Barriers.Applied, nil
}

// group returns what the standby says, and notes the conditions of both.
func (i *inspector) group(ctx context.Context) (*control.Group, error) {
	s, err := i.standby.Status(ctx)
	if err != nil || len(s.Groups) != 1 {
		return nil, errors.Join(errors.New("no status"), err)
	}
	if now := time.Now(); now.Sub(i.noticed) > conditionsEvery {
		i.noticed = now
		i.k.notice("standby", s.Health)
		if p, err := i.primary.Status(ctx); err == nil {
			i.k.notice("primary", p.Health)
		}
	}
	return &s.Groups[0], nil
}

// look checks at a barrier at which the standby is paused. What doesn't match while all
// stands still never will; a barrier that was being published when a daemon was killed
// is finished before it pauses, and then another one is there.
func (i *inspector) look(ctx context.Context, b *control.Barrier) error {
	whole := i.k.count(func(c *counts) bool { return c.checked%wholeEvery == 0 })
	for end := time.Now().Add(heldWithin); ; {
		begun := time.Now()
		if paired, err := i.arrived(ctx, b); err != nil || !paired {
			return err
		}
		i.k.took(phaseReplay, begun)
		begun = time.Now()
		found, violation, err := i.check(ctx, b, whole)
		g, again := i.group(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case again == nil && passed(g, b):
			return nil // the next round looks at it
		case err != nil || again != nil || g.Barriers.Applied == nil || i.at(ctx, b) != nil: // something went away
			end = time.Now().Add(heldWithin)
		case violation == nil:
			i.k.took(phaseCheck, begun)
			i.k.looked(b, found, whole)
			return nil
		case time.Now().After(end):
			return fmt.Errorf("barrier %s: %w", b.ID, violation)
		}
		i.checker.Forget()
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// passed reports whether the standby is at another barrier. One that has just started
// doesn't say yet.
func passed(g *control.Group, b *control.Barrier) bool {
	return g.Barriers.Applied != nil && g.Barriers.Applied.ID != b.ID
}

// arrived waits until the replica is at the barrier; false: the standby is at another one, or
// the replica was made anew behind it, and only a later one opens its gate.
func (i *inspector) arrived(ctx context.Context, b *control.Barrier) (bool, error) {
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err = i.at(ctx, b); err == nil {
			return true, nil
		}
		if g, e := i.group(ctx); e == nil && (passed(g, b) || g.Phase == control.PhasePaused && i.closed(ctx)) {
			return false, nil
		}
		if err := wait(ctx, lookEvery); err != nil {
			return false, err
		}
	}
	return false, fmt.Errorf("waited %s until the replica is at barrier %s: %w", patience, b.ID, err)
}

// closed reports whether the gate has not been opened since the replica was made.
func (i *inspector) closed(ctx context.Context) bool {
	l, err := i.standby.Databases(ctx, control.DatabaseRequest{})
	return err == nil && len(l.Databases) == 1 && l.Databases[0].Gate == ""
}

// at is an error if the replica isn't at the barrier.
func (i *inspector) at(ctx context.Context, b *control.Barrier) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	at, err := i.replica.Replayed(ctx)
	if err != nil {
		return err
	}
	if want := b.Databases[paired].Position; at != want {
		return fmt.Errorf("the replica is at %s, want %s of barrier %s", at, want, b.ID)
	}
	return nil
}

// check compares files and rows, of all writers that there were or of those at work.
func (i *inspector) check(ctx context.Context, b *control.Barrier, whole bool) (f pairtest.Found, violation, err error) {
	first := i.k.now().first
	d := i.k.demand(first)
	if whole {
		i.checker.Forget()
		d.First = 0
	}
	d.Least, d.Newest = i.bounds(b.CutAt.Time, first, d.First)
	rows, err := i.replica.RowsFrom(ctx, d.First)
	if err != nil {
		return f, nil, err
	}
	f, violation = i.checker.Check(i.tree, rows, d)
	return f, violation, nil
}

// samplesKept bounds the moments that are remembered: barriers may be minutes old.
const samplesKept = 4096

// sample asks the writers how far they are.
func (i *inspector) sample() {
	run := i.k.now()
	s := sample{asked: time.Now(), first: run.first}
	var err error
	if s.State, err = run.app.State(); err != nil {
		return // it is about to end
	}
	s.told = time.Now()
	if i.samples = append(i.samples, s); len(i.samples) > samplesKept {
		i.samples = slices.Delete(i.samples, 0, samplesKept/2)
	}
}

// cutWithin is by how much the instant of a cut may differ from its wall clock time.
const cutWithin = 2 * time.Millisecond

// bounds returns how many operations of each writer were over before the cut, and how
// many had begun behind it, as far as that is known: from writer from on.
func (i *inspector) bounds(cut time.Time, first, from int) (least, newest []int64) {
	zero := make([]int64, first-from)
	for _, s := range i.samples {
		switch {
		case s.first != first:
		case s.told.Before(cut.Add(-cutWithin)):
			least = append(slices.Clone(zero), s.Done...)
		case s.asked.After(cut.Add(cutWithin)) && from == first:
			return least, s.Begun
		}
	}
	return least, nil
}
