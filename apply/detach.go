package apply

import (
	"fmt"

	"repld/change"
	"repld/tree"
)

// detach carries out one operation of phase 1. It does nothing where the
// directory or the object isn't the one meant: then this was done before, and
// something else has come into the place.
func (p *publisher) detach(o *operation) error {
	at := tree.InTree(o.path)
	if o.action == actSalvage {
		return p.detachForeign(o, at)
	}
	is, err := p.parentIs(o)
	if err != nil || !is {
		return err
	}
	st, err := p.fs(o.tree).Lstat(at)
	if vanished(err) {
		return nil
	}
	if err != nil {
		return err
	}
	local, err := p.identity(o.node)
	if err != nil {
		return err
	}
	if st.ID != local.ObjectID {
		if o.again || o.action == actHub {
			return nil // phase 2 looks at it
		}
		return p.salvage(o.tree, at, o.path, &st, "somebody else's object at a name that vanishes")
	}
	stage := tree.InOwn(stagePath(o.node))
	switch o.action {
	case actRemove, actGone:
		if !o.again && p.a.trees[o.tree].skips(o.path) {
			return nil // excluded by now: it stays as it is
		}
	}
	switch o.action {
	case actRemove:
		return p.remove(o, at, &st)
	case actUnlink:
		return ignoreVanished(p.fs(o.tree).Remove(at))
	case actMove:
		return p.rename(o.tree, at, stage)
	case actGone:
		if p.c.seed && !p.c.known {
			return p.salvage(o.tree, at, o.path, &st, "not in the base")
		}
		return p.rename(o.tree, at, tree.InOwn(gonePath(o.node)))
	case actHub:
		return p.hub(o, at, stage)
	}
	return fmt.Errorf("%w: action %d in phase 1", ErrScratch, o.action)
}

// parentIs reports whether the directory of an operation's path is the one meant.
func (p *publisher) parentIs(o *operation) (bool, error) {
	dir, _ := change.Split(o.path)
	if p.dirSeen && p.dirTree == o.tree && p.dirPath == dir {
		return p.dirIs, nil
	}
	local, err := p.identity(o.parent)
	if err != nil {
		return false, err
	}
	is := true
	if local.Known() {
		st, err := p.fs(o.tree).Lstat(tree.InTree(dir))
		if err != nil && !vanished(err) {
			return false, err
		}
		is = err == nil && st.ID == local.ObjectID
	}
	p.dirSeen, p.dirTree, p.dirPath, p.dirIs = true, o.tree, dir, is
	return is, nil
}

// remove takes away an object that is as it was published, and salvages it if not.
func (p *publisher) remove(o *operation, at tree.Place, st *change.Stat) error {
	keep, err := p.keep(o.node, st)
	if err != nil {
		return err
	}
	if keep != "" {
		return p.salvage(o.tree, at, o.path, st, keep)
	}
	return p.retire(o.node, o.tree, at, st)
}

// keep returns why the present object of a node must be salvaged before something
// else takes its place; "" if it may go.
func (p *publisher) keep(id change.NodeID, st *change.Stat) (reason string, err error) {
	n, ok, err := p.base.Node(id)
	if err != nil {
		return "", err
	}
	switch {
	case !ok:
		return "somebody else's object", nil
	case p.c.seed && p.c.known && !n.Local.Racy: // [SalvageDiverged] has kept what only this node had
	case p.c.seed && id >= localNodes:
		return "not in the base", nil
	case p.c.seed:
		return "differs from the base", nil
	}
	if !untouched(&n.Local, st, n.Links > 1) && !p.retired(id, st.ID) {
		return "changed by somebody else", nil
	}
	return "", nil
}

// detachForeign sets aside what a repair found at a name, unless what belongs
// there came there since.
func (p *publisher) detachForeign(o *operation, at tree.Place) error {
	st, err := p.fs(o.tree).Lstat(at)
	if vanished(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if o.again {
		id, err := p.published(o.node)
		if err != nil {
			return err
		}
		if st.ID == id {
			return nil
		}
	}
	return p.salvage(o.tree, at, o.path, &st, "found by verify")
}

// hub links an object to the staging directory.
func (p *publisher) hub(o *operation, at, stage tree.Place) error {
	err := p.fs(o.tree).Link(at, stage)
	if !exists(err) {
		return err
	}
	want, err := p.identity(o.node)
	if err != nil {
		return err
	}
	st, err := p.fs(o.tree).Lstat(stage)
	if err != nil || st.ID == want.ObjectID {
		return err
	}
	if err := tree.RemoveAll(p.fs(o.tree), stage); err != nil {
		return err
	}
	return p.fs(o.tree).Link(at, stage)
}

// rename moves what is at from; that it isn't there any more is no error.
func (p *publisher) rename(index uint8, from, to tree.Place) error {
	p.dirSeen = false
	err := p.fs(index).RenameNoReplace(from, to)
	if exists(err) {
		if err := tree.RemoveAll(p.fs(index), to); err != nil {
			return err
		}
		err = p.fs(index).RenameNoReplace(from, to)
	}
	return ignoreVanished(err)
}

func ignoreVanished(err error) error {
	if vanished(err) {
		return nil
	}
	return err
}
