package apply

import (
	"fmt"
	"maps"
	"slices"

	"repld/change"
	"repld/health"
	"repld/journal/catalog"
	"repld/tree"
)

// What a standby may not set for want of privilege is left out, and the condition
// not-permitted names the kinds of it. Staging finds them; a round of the watchman in
// which nothing is staged that isn't permitted makes the list what the trees lack, so
// that the condition ends with its cause, and comes back after a restart.

const deniedKept = 20

// denyOnce reports what couldn't be set for want of privilege, each kind once.
func (a *Applier) denyOnce(what []string) {
	if len(what) == 0 {
		return
	}
	a.watch.denials.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	news := false
	for _, w := range what {
		if !a.denied[w] && len(a.denied) < deniedKept {
			a.denied[w], news = true, true
		}
	}
	if news {
		a.raiseDenied()
	}
}

// raiseDenied tells the health board. The caller holds a.mu.
func (a *Applier) raiseDenied() {
	a.raise(health.NotPermitted, "this standby can't keep %s: it has no right to, or its file system no place for it", listed(a.denied))
}

// mayLack reports whether objects may lack something for want of privilege.
func (a *Applier) mayLack() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.denied) > 0 || len(tree.Held().KeepLacks()) > 0
}

// lacks adds to found what a node's object lacks.
func (v *verifier) lacks(n *catalog.Node, at place, found map[string]bool) error {
	if len(found) >= deniedKept {
		return nil
	}
	st, err := v.rd[at.tree].Lstat(at.path)
	if vanished(err) {
		if (n.Kind == change.KindCharDevice || n.Kind == change.KindBlockDevice) && !tree.Held().Devices() {
			found[nodesOf(n.Kind)] = true
		}
		return nil
	}
	if err != nil || st.Kind != n.Kind {
		return err
	}
	meta, err := v.rd[at.tree].Meta(at.path, &st)
	if err != nil {
		return ignoreVanished(err)
	}
	for _, w := range lackOf(&n.Meta, &meta) {
		found[w] = true
	}
	return nil
}

func nodesOf(k change.Kind) string { return k.String() + " nodes" }

// lackOf names what an object lacks of what it should have. Anything else that differs
// is somebody's writing.
func lackOf(want, found *change.Meta) (names []string) {
	if want.UID != found.UID || want.GID != found.GID {
		names = append(names, "owner")
	}
	const setuid, setgid = 0o4000, 0o2000
	if want.Mode&^found.Mode&setuid != 0 {
		names = append(names, "setuid")
	}
	if want.Mode&^found.Mode&setgid != 0 {
		names = append(names, "setgid")
	}
	for _, x := range want.Xattrs {
		if !slices.ContainsFunc(found.Xattrs, func(y change.Xattr) bool { return x.Name == y.Name }) {
			names = append(names, "xattr "+x.Name)
		}
	}
	return names
}

// endDenials makes the condition what a whole round has found the trees to lack, unless
// something was staged meanwhile that lacks something.
func (a *Applier) endDenials(w *watchman) {
	if w.lacking == nil || a.watch.denials.Load() != w.denialsBegun {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if maps.Equal(a.denied, w.lacking) {
		return
	}
	a.denied = w.lacking
	if w.lacking = nil; len(a.denied) == 0 {
		a.resolve(health.NotPermitted)
		return
	}
	a.raiseDenied()
}

// lookAtPrivileges begins a round's list of what the trees lack.
func (w *watchman) lookAtPrivileges(a *Applier) {
	w.denialsBegun, w.lacking = w.denials.Load(), nil
	if a.mayLack() {
		w.lacking = make(map[string]bool)
	}
}

// privileges adds what a node's object lacks to the round's list.
func (w *watchman) privileges(v *verifier, id change.NodeID, n *catalog.Node) error {
	if w.lacking == nil {
		return nil
	}
	at, err := v.a.locate(v.base, id)
	if err != nil {
		return fmt.Errorf("node %d: %w", id, err)
	}
	return v.lacks(n, at, w.lacking)
}
