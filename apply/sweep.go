package apply

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// sweep empties the staging directories after phase 2: hubs and redo files that
// did their work, and what vanished from the trees as a whole directory.
func (p *publisher) sweep() error {
	for index := range p.a.trees {
		err := eachStage(p.a.trees[index].FS, func(dir, name string) error { return p.sweepEntry(uint8(index), dir, name) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) sweepEntry(index uint8, dir, name string) error {
	at := tree.InOwn(dir + name)
	digits, gone := strings.CutPrefix(name, gonePrefix)
	if !gone {
		err := p.fs(index).Remove(at)
		if errors.Is(err, syscall.ENOTEMPTY) || exists(err) {
			return p.salvageOwn(index, at, "unattached/"+name, "a directory that was left over")
		}
		return ignoreVanished(err)
	}
	id, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return p.salvageOwn(index, at, "unattached/"+name, "of unknown origin")
	}
	return p.a.catalog.ViewNext(func(tx *catalog.Tx) error {
		p.next, p.base = tx, tx.Before()
		_, path, ok := p.base.Path(change.NodeID(id))
		if !ok {
			path = "unattached/" + name
		}
		return p.sweepGone(index, at, path, change.NodeID(id))
	})
}

// sweepGone removes a directory that vanished, with everything in it that is as
// it was published. What isn't is salvaged. path is where the directory was.
func (p *publisher) sweepGone(index uint8, at tree.Place, path string, dir change.NodeID) error {
	entries, err := p.fs(index).ReadDir(at)
	if err != nil {
		return ignoreVanished(err)
	}
	for _, e := range entries {
		if err := p.sweepChild(index, tree.InOwn(change.Join(at.Path, e.Name)), change.Join(path, e.Name), dir, e.Name); err != nil {
			return err
		}
	}
	err = p.fs(index).Remove(at)
	if errors.Is(err, syscall.ENOTEMPTY) || exists(err) {
		return fmt.Errorf("somebody writes into a directory that is being removed: %w", err)
	}
	return ignoreVanished(err)
}

func (p *publisher) sweepChild(index uint8, at tree.Place, path string, dir change.NodeID, name string) error {
	st, err := p.fs(index).Lstat(at)
	if err != nil {
		return ignoreVanished(err)
	}
	id, known := p.base.Lookup(dir, name)
	if !known {
		if p.a.trees[index].skips(path) {
			return p.salvage(index, at, path, &st, reasonExcluded)
		}
		return p.salvage(index, at, path, &st, "unknown, in a directory that vanishes")
	}
	local, err := p.identity(id)
	if err != nil {
		return err
	}
	if local.ObjectID == st.ID && st.Kind == change.KindDir {
		return p.sweepGone(index, at, path, id)
	}
	if p.next.Kind(id) != 0 && local.ObjectID == st.ID {
		// An object that lives on under another name, maybe patched meanwhile.
		if lives, err := p.published(id); err != nil {
			return err
		} else if lives == st.ID {
			return ignoreVanished(p.fs(index).Remove(at))
		}
	}
	keep, err := p.keep(id, &st)
	if err != nil {
		return err
	}
	if keep != "" {
		return p.salvage(index, at, path, &st, keep)
	}
	return p.retire(id, index, at, &st)
}

// tidyStage removes what an attempt left in the staging directories that the
// scratch file doesn't know. Nothing may be committed.
func (a *Applier) tidyStage() error {
	for index := range a.trees {
		fsys := a.trees[index].FS
		err := a.scratch.view(func(t *scratchTx) error {
			return eachStage(fsys, func(dir, name string) error {
				id, err := strconv.ParseUint(strings.TrimSuffix(name, ".redo"), 10, 64)
				if err == nil {
					if _, ok, err := t.staged(change.NodeID(id)); ok || err != nil {
						return err
					}
				}
				return tree.RemoveAll(fsys, tree.InOwn(dir+name))
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
