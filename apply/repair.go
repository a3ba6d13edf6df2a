package apply

import (
	"context"

	"repld/change"
	"repld/journal/catalog"
)

// repairNodes mends the nodes that v found bad: it looks at them again, since
// barriers may have been applied since, plans what has to be done, and publishes
// that like a barrier. The caller has the turn.
func (a *Applier) repairNodes(ctx context.Context, v *verifier) error {
	a.mu.Lock()
	c := &commit{phase: phasePublish, repair: true, point: a.applied}
	a.mu.Unlock()
	// The base is made right, not what an unfinished barrier would make of it.
	if err := a.catalog.DropNext(); err != nil {
		return err
	}
	finds, err := v.again(ctx)
	if err != nil {
		return err
	}
	if len(finds) > 0 {
		forced := make(map[change.NodeID]bool)
		for i := range finds {
			if remade, err := a.remakes(&finds[i]); err != nil {
				return err
			} else if remade {
				forced[finds[i].node] = true
			}
		}
		if err := a.stage(ctx, forced); err != nil {
			return err
		}
		return a.commitAndFinish(ctx, c, func() error { return a.planRepair(finds, forced) })
	}
	return a.putState(stateSuspect, nil)
}

// remakes reports whether a find takes a new object. One that is right in all but
// its identity is accepted, unless it should be the same at several names.
func (a *Applier) remakes(f *find) (remade bool, err error) {
	switch f.what {
	case DiffersExtra, DiffersMetadata:
		return false, nil
	case DiffersReplaced:
		err = a.catalog.View(func(tx *catalog.Tx) error {
			n, ok, err := tx.Node(f.node)
			remade = ok && n.Kind != change.KindDir && n.Links > 1
			return err
		})
		return remade, err
	}
	return true, nil
}

// again verifies the bad nodes once more.
func (v *verifier) again(ctx context.Context) ([]find, error) {
	var finds []find
	v.found = func(f find) { finds = append(finds, f) }
	count := v.report
	defer func() { v.report = count }() // what is read twice counts once
	err := v.a.catalog.View(func(tx *catalog.Tx) error {
		done := v.open(tx)
		defer done()
		for id := range v.bad {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, ok, err := tx.Node(id)
			if err != nil {
				return err
			}
			if !ok {
				continue // gone since
			}
			if err := v.node(id, &n); err != nil {
				return err
			}
		}
		return nil
	})
	return finds, err
}

// planRepair writes the operations of a repair.
func (a *Applier) planRepair(finds []find, forced map[change.NodeID]bool) error {
	if err := a.scratch.clearPlan(); err != nil {
		return err
	}
	return a.catalog.ViewNext(func(tx *catalog.Tx) error {
		p := &planner{a: a, next: tx, base: tx, memo: make(map[change.NodeID]nodePlan)}
		for id := range forced {
			if err := p.remake(id); err != nil {
				return err
			}
		}
		for _, f := range finds {
			var err error
			switch f.what {
			case DiffersExtra:
				o := operation{action: actSalvage, tree: f.at.tree, parent: f.parent, path: f.at.path}
				if err = p.put(bucketDetach, detachKey(&o), o.encode()); err == nil {
					err = p.touchNode(f.node, touchDir)
				}
			case DiffersMetadata, DiffersReplaced:
				if forced[f.node] {
					continue
				}
				class := uint8(touchFile)
				if tx.Kind(f.node) == change.KindDir {
					class = touchDir
				}
				err = p.touchNode(f.node, class)
			}
			if err != nil {
				return err
			}
		}
		return p.flush()
	})
}

// remake plans that an object is set aside at all its names and put there anew.
func (p *planner) remake(id change.NodeID) error {
	n, err := p.lookup(id)
	if err != nil || n.how != stagedFull {
		return err
	}
	for parent, name := range p.next.Names(id) {
		if parent == change.GroupNode {
			continue
		}
		dir, err := p.a.locate(p.next, parent)
		if err != nil {
			return err
		}
		o := operation{action: actSalvage, again: true, node: id, parent: parent, tree: dir.tree, path: change.Join(dir.path, name)}
		if err := p.put(bucketDetach, detachKey(&o), o.encode()); err != nil {
			return err
		}
		o.action, o.again = actPlace, false
		if n.linked > 1 && n.kind != change.KindDir {
			o.action = actLink
			if err := p.touchNode(id, touchFile); err != nil {
				return err
			}
		}
		if n.kind == change.KindDir {
			if err := p.touchNode(id, touchDir); err != nil {
				return err
			}
		}
		if err := p.put(bucketAttach, attachKey(&o), o.encode()); err != nil {
			return err
		}
		if err := p.touch(touched{class: touchDir, tree: dir.tree, node: parent, path: dir.path}); err != nil {
			return err
		}
	}
	return nil
}
