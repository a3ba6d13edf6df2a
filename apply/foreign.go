package apply

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"repld/change"
	"repld/journal/catalog"
)

// watchman looks at all objects of the trees, a batch at a time, for what somebody
// else did to them. It reads no content but that of files whose change time isn't
// the one that was recorded.
type watchman struct {
	after change.NodeID
	begun uint64 // finds when the round began
	finds foreignFinds

	// lacking is what the round has found the trees to lack for want of privilege; nil
	// if that can't be. denials counts what staging had to leave out, at any time.
	lacking      map[string]bool
	denials      atomic.Uint64
	denialsBegun uint64
}

// watchNodes objects are looked at in one batch.
const watchNodes = 2000

// watchPause is the time between two batches, so that a round takes ForeignScan.
func (a *Applier) watchPause() time.Duration {
	cert, _ := a.Applied()
	return max(a.o.ForeignScan/time.Duration(cert.Files/watchNodes+1), 100*time.Millisecond)
}

// LookAround looks at some of the objects in the trees for what somebody else
// wrote, and goes on from there at the next call; round reports that all have been
// looked at. Finds are the condition foreign-write, which a round without any ends.
// Run does it over the time of Options.ForeignScan.
func (a *Applier) LookAround(ctx context.Context) (round bool, err error) {
	if err := a.acquire(ctx); err != nil {
		return false, err
	}
	defer a.release()
	if err := a.finishPending(ctx); err != nil {
		return false, err
	}
	if cert, _ := a.Applied(); cert.ID.IsZero() || a.Seeding() {
		return true, nil
	}
	if err := a.checkRoots(); err != nil {
		return false, err
	}
	w := &a.watch
	if w.after == 0 {
		w.begun, w.finds = a.foreignSeen(), foreignFinds{}
		w.lookAtPrivileges(a)
	}
	var right []localUpdate
	more := false
	v := &verifier{a: a, found: func(f find) { w.note(fmt.Sprintf("%q: %s", a.named(f.at), f.what)) }}
	err = a.catalog.View(func(tx *catalog.Tx) error {
		done := v.open(tx)
		defer done()
		nodes := 0
		for id, n := range tx.Nodes(w.after) {
			if err := ctx.Err(); err != nil {
				return err
			}
			local, err := v.glance(id, &n)
			if err != nil {
				return err
			}
			if err := w.privileges(v, id, &n); err != nil {
				return err
			}
			if local.Known() {
				right = append(right, localUpdate{id, local})
			}
			w.after = id
			if nodes++; nodes >= watchNodes || v.report.Bytes >= verifyBytes {
				more = true
				break
			}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	if err := a.relearn(right); err != nil || more {
		return false, err
	}
	w.after = 0
	a.endRound(w)
	a.endDenials(w)
	return true, nil
}

func (w *watchman) note(text string) {
	if w.finds.count++; w.finds.count == 1 {
		w.finds.first = text
	}
}

// foreignSeen counts what was ever found.
func (a *Applier) foreignSeen() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.foreignTotal
}

// endRound makes the condition what a whole round has found.
func (a *Applier) endRound(w *watchman) {
	a.mu.Lock()
	news := a.foreignTotal != w.begun // barriers have found something since
	if w.finds.count > 0 {
		a.foreign = w.finds
	}
	f := a.foreign
	a.mu.Unlock()
	switch {
	case w.finds.count > 0:
		a.raiseForeign(f)
	case !news:
		a.forgetForeign()
	}
}

// glance looks at a node at all its names. Where something differs from what was
// recorded, it is verified; an object that proves right is returned to be recorded
// as it is now.
func (v *verifier) glance(id change.NodeID, n *catalog.Node) (right catalog.Local, err error) {
	at, err := v.a.locate(v.base, id)
	if err != nil {
		return right, err
	}
	st, err := v.rd[at.tree].Lstat(at.path)
	if err != nil && !vanished(err) {
		return right, err
	}
	if err == nil && st.Kind == n.Kind && untouched(&n.Local, &st, false) && n.Links <= 1 {
		return right, nil
	}
	before, found := v.found, false
	v.found = func(f find) { found = true; before(f) }
	defer func() { v.found = before }()
	if err == nil && n.Links > 1 && untouched(&n.Local, &st, false) {
		return right, v.links(id, n)
	}
	if err := v.node(id, n); err != nil || found || vanished(err) {
		return right, err
	}
	if st.Kind == n.Kind && st.ID == n.Local.ObjectID {
		right = localOf(&st, v.a.clock)
	}
	return right, nil
}

// links sees to it that an object has all its names. That it has no others its
// number of links says.
func (v *verifier) links(id change.NodeID, n *catalog.Node) error {
	for parent, name := range v.base.Names(id) {
		dir, err := v.a.locate(v.base, parent)
		if err != nil {
			return err
		}
		at := place{dir.tree, change.Join(dir.path, name)}
		st, err := v.rd[at.tree].Lstat(at.path)
		if err != nil && !vanished(err) {
			return err
		}
		if err != nil || st.ID != n.Local.ObjectID {
			v.found(find{node: id, parent: parent, at: at, what: DiffersReplaced})
		}
	}
	return nil
}

// relearn records objects that are right, but were touched. Those that an
// unfinished barrier is about to change are left for the next time.
func (a *Applier) relearn(locals []localUpdate) error {
	if len(locals) == 0 {
		return nil
	}
	free, err := a.catalog.NextEmpty()
	if err != nil || !free {
		return err
	}
	return a.catalog.Update(func(tx *catalog.Tx) error { return setLocals(tx, locals) })
}
