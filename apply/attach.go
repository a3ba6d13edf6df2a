package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"repld/change"
	"repld/tree"
)

// attach carries out one operation of phase 2: afterwards the name has the
// object of its node, or the loss is noted.
func (p *publisher) attach(o *operation) error {
	err := p.put(o)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		// The object or the way to its name isn't there, though it was when the
		// barrier was committed: somebody interferes.
		if _, missing := p.fs(o.tree).Lstat(tree.InOwn(stagePath(o.node))); vanished(missing) {
			p.lost(o.node, o.path, "was taken away while it was published")
			return nil
		}
		if err = p.pave(o); err == nil {
			err = p.put(o)
		}
	}
	if err != nil {
		return err
	}
	if o.action == actPlace && p.next.Kind(o.node) != change.KindDir {
		p.learner.add(o)
	}
	return nil
}

// put brings the staged object to its name.
func (p *publisher) put(o *operation) error {
	fsys, from, to := p.fs(o.tree), tree.InOwn(stagePath(o.node)), tree.InTree(o.path)
	var free error // why it could not be brought to a free name
	if o.occupant == 0 {
		if free = p.bring(o, from, to); free == nil {
			return nil
		}
	}
	id, err := p.published(o.node)
	if err != nil {
		return err
	}
	if free != nil && !exists(free) {
		return p.unlessThere(free, fsys, to, id)
	}
	st, err := fsys.Lstat(to)
	switch {
	case vanished(err):
		return p.unlessThere(p.bring(o, from, to), fsys, to, id)
	case err != nil:
		return err
	case st.ID == id:
		return nil
	}
	reason := "in the way of a new object"
	if o.occupant != 0 {
		if local, err := p.identity(o.occupant); err != nil {
			return err
		} else if local.ObjectID == st.ID {
			if reason, err = p.keep(o.occupant, &st); err != nil {
				return err
			}
			if reason == "" {
				if err := p.linkKept(o.occupant, o.tree, to, &st); err != nil {
					return err
				}
			}
		}
	}
	if reason != "" || st.Kind == change.KindDir {
		if err := p.salvage(o.tree, to, o.path, &st, reason); err != nil {
			return err
		}
	}
	return p.replace(o, from, to)
}

// bring puts the staged object at a free name.
func (p *publisher) bring(o *operation, from, to tree.Place) error {
	if o.action == actLink {
		return p.fs(o.tree).Link(from, to)
	}
	return p.fs(o.tree).RenameNoReplace(from, to)
}

// replace puts the staged object at a name that may be taken, in one step.
func (p *publisher) replace(o *operation, from, to tree.Place) error {
	if o.action != actLink {
		return p.fs(o.tree).Rename(from, to)
	}
	second := tree.InOwn(from.Path + ".link")
	if err := ignoreVanished(p.fs(o.tree).Remove(second)); err != nil {
		return err
	}
	if err := p.fs(o.tree).Link(from, second); err != nil {
		return err
	}
	return p.fs(o.tree).Rename(second, to)
}

// unlessThere turns the error of a repetition into success.
func (p *publisher) unlessThere(err error, fsys tree.FS, to tree.Place, id change.ObjectID) error {
	if err == nil {
		return nil
	}
	if st, there := fsys.Lstat(to); there == nil && st.ID == id {
		return nil
	}
	return err
}

// pave makes the directories on the way to a name that somebody took away. What
// stands in the way is salvaged; verification will set right what is missing.
func (p *publisher) pave(o *operation) error {
	dir, _ := change.Split(o.path)
	p.lost(o.parent, dir, "was taken away while the barrier was published")
	for end := 0; end <= len(dir); end++ {
		if end < len(dir) && dir[end] != '/' {
			continue
		}
		at := tree.InTree(dir[:end])
		st, err := p.fs(o.tree).Lstat(at)
		if err == nil && st.Kind == change.KindDir {
			continue
		}
		if err == nil {
			err = p.salvage(o.tree, at, at.Path, &st, "in the way of a directory")
		}
		if err != nil && !vanished(err) {
			return err
		}
		if err := p.fs(o.tree).Mkdir(at); err != nil {
			return fmt.Errorf("make the directory %q anew: %w", at.Path, err)
		}
	}
	return nil
}
