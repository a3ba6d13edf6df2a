package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"repld/apply"
	"repld/control"
	"repld/control/view"
	"repld/role"
	"repld/tree"
)

// salvages is what was set aside beside a group's trees.
type salvages interface {
	Salvages() ([]apply.Salvaged, error)
	SalvagedEntries(id string, fn func(apply.SalvagedEntry) error) error
	RestoreSalvaged(ctx context.Context, id, path, dir string) ([]apply.Restored, error)
	RemoveSalvaged(ctx context.Context, id string) (apply.Salvaged, error)
}

// nothingSetAside is where there never was a standby.
type nothingSetAside struct{}

func (nothingSetAside) Salvages() ([]apply.Salvaged, error) { return nil, nil }
func (nothingSetAside) SalvagedEntries(string, func(apply.SalvagedEntry) error) error {
	return apply.ErrNoSalvage
}
func (nothingSetAside) RestoreSalvaged(context.Context, string, string, string) ([]apply.Restored, error) {
	return nil, apply.ErrNoSalvage
}
func (nothingSetAside) RemoveSalvaged(context.Context, string) (apply.Salvaged, error) {
	return apply.Salvaged{}, apply.ErrNoSalvage
}

// onSalvages calls f with what was set aside of a group, whatever the node is by now: a
// node that stood by once may serve.
func (n *node) onSalvages(ctx context.Context, name string, f func(context.Context, *group, salvages) error) error {
	g, err := n.byName(name)
	if err != nil {
		return err
	}
	s, during, leave, err := g.use(ctx)
	if err == nil {
		defer leave()
		if r, ok := s.(*receiving); ok {
			return explainSalvaged(f(during, g, r.applier), g)
		}
	} else if g.task().does == role.Takes {
		return err // it is about to work there
	}
	if _, err := os.Lstat(g.file(rootsName)); errors.Is(err, fs.ErrNotExist) {
		return explainSalvaged(f(ctx, g, nothingSetAside{}), g)
	}
	volumes, trees, err := g.openVolumes()
	defer closeVolumes(volumes)
	if err != nil {
		return explain(err)
	}
	return explainSalvaged(f(ctx, g, apply.NewSetAside(trees)), g)
}

// explainSalvaged turns an error into one with an exit code and a hint.
func explainSalvaged(err error, g *group) error {
	var target *tree.Error
	switch {
	case errors.Is(err, apply.ErrNoSalvage):
		return control.Errorf(control.ExitUsage, "%w", err).WithHint("`replctl salvage list`")
	case errors.Is(err, apply.ErrNotThere):
		return control.Errorf(control.ExitUsage, "%w", err).
			WithHint("a path begins with the tree's name, as in %s/…; `replctl salvage show ID` lists what a set holds", g.conf.Trees[0].Name)
	case errors.Is(err, apply.ErrTargetExists):
		return control.Errorf(control.ExitRefused, "%w", err).WithHint("name another directory, or move away what is there: nothing is overwritten")
	case errors.As(err, &target) && target.Op == "open target":
		return control.Errorf(control.ExitUsage, "%w", err)
	}
	return err
}

// Salvages lists what was set aside; see [control.HistoryBackend].
func (n *node) Salvages(ctx context.Context, req control.SalvagesRequest) (list *control.SalvageList, err error) {
	err = n.onSalvages(ctx, req.Group, func(_ context.Context, g *group, s salvages) error {
		sets, err := s.Salvages()
		if err != nil {
			return err
		}
		list = &control.SalvageList{Group: g.name}
		for i := range sets {
			if req.ID != "" && sets[i].ID != req.ID {
				continue
			}
			set := salvageSet(&sets[i])
			if req.ID != "" {
				if err := addEntries(s, &set, req.Limit); err != nil {
					return err
				}
			}
			list.Sets = append(list.Sets, set)
		}
		if req.ID != "" && len(list.Sets) == 0 {
			return s.SalvagedEntries(req.ID, func(apply.SalvagedEntry) error { return nil })
		}
		return nil
	})
	return list, err
}

func salvageSet(s *apply.Salvaged) control.SalvageSet {
	set := control.SalvageSet{ID: s.ID, At: control.TimeOf(s.At), By: s.By, Reasons: s.Reasons, Count: s.Entries, Bytes: s.Bytes}
	if set.Reasons == nil {
		set.Reasons = []string{}
	}
	return set
}

// addEntries adds the entries of a set.
func addEntries(s salvages, set *control.SalvageSet, limit int) error {
	return s.SalvagedEntries(set.ID, func(e apply.SalvagedEntry) error {
		if limit == 0 || len(set.Entries) < limit {
			set.Entries = append(set.Entries, control.SalvageEntry{At: control.TimeOf(e.At), Path: e.Path, Kept: e.Kept, Kind: e.Kind,
				Bytes: e.Size, Mtime: control.TimeOf(e.Mtime), Reason: e.Reason})
		}
		return nil
	})
}

// RemoveSalvage removes what was set aside; see [control.HistoryBackend].
func (n *node) RemoveSalvage(ctx context.Context, req control.RemoveSalvageRequest) (reply *control.SalvageSet, err error) {
	err = n.onSalvages(ctx, req.Group, func(ctx context.Context, g *group, s salvages) error {
		removed, err := s.RemoveSalvaged(ctx, req.ID)
		if err != nil {
			return err
		}
		set := salvageSet(&removed)
		reply = &set
		g.event(control.EventSalvageRemoved, map[string]string{"salvage": req.ID}, "what was set aside as %s was removed: %s, %s",
			req.ID, view.Count(set.Count, "object"), view.Bytes(set.Bytes))
		return nil
	})
	return reply, err
}

// RestoreSalvage copies what was set aside; see [control.HistoryBackend].
func (n *node) RestoreSalvage(ctx context.Context, req control.RestoreSalvageRequest) (reply *control.RestoreReply, err error) {
	err = n.onSalvages(ctx, req.Group, func(ctx context.Context, g *group, s salvages) error {
		one := func(path string) error {
			out, err := s.RestoreSalvaged(ctx, req.ID, path, req.To)
			if err != nil {
				return err
			}
			reply = restored(g.name, out...)
			g.event(control.EventRestored, map[string]string{"salvage": req.ID, "target": req.To}, "what was set aside as %s was copied out", req.ID)
			return nil
		}
		if req.Path == "" {
			return one("")
		}
		return g.firstPath(req.Path, one)
	})
	return reply, err
}
