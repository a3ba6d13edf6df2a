package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"

	"repld/apply"
	"repld/apply/history"
	"repld/change"
	"repld/control"
	"repld/journal/catalog"
	"repld/tree"
)

// onStandby calls f with a group's side on a standby; verb says what only that can do.
func (n *node) onStandby(ctx context.Context, group, verb string, f func(context.Context, *receiving) error) error {
	return n.with(ctx, group, func(ctx context.Context, s side) error {
		r, ok := s.(*receiving)
		if !ok {
			return errNotStandby(verb)
		}
		return r.explainPast(f(ctx, r))
	})
}

// explainPast turns an error of going back into one with an exit code and a hint.
func (s *receiving) explainPast(err error) error {
	refused := func(hint string) error {
		return control.Errorf(control.ExitRefused, "%w", err).WithState(string(phaseOf(applierOf{s}.phase()))).WithHint("%s", hint)
	}
	var target *tree.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, apply.ErrNoHistory):
		return refused("history: in the configuration says how much is kept; it begins with the next barrier")
	case errors.Is(err, apply.ErrNotRetained), errors.Is(err, history.ErrGone):
		return refused("`replctl barriers` lists the barriers of this standby and which of them are rewindable")
	case errors.Is(err, apply.ErrNeedsSeed):
		return refused("wait until the seed is published: `replctl status`")
	case errors.Is(err, apply.ErrTargetExists):
		return refused("name another directory, or move away what is there: nothing is overwritten")
	case errors.Is(err, apply.ErrNotThere):
		return control.Errorf(control.ExitFailed, "%w", err).
			WithHint("a path begins with the tree's name, as in %s/…; `replctl barriers --find PATH` tells which barriers have it", s.conf.Trees[0].Name)
	case errors.Is(err, apply.ErrIncomplete):
		return control.Errorf(control.ExitFailed, "%w", err).WithHint("what was kept is damaged; look after the disk, and try another barrier")
	case errors.As(err, new(*apply.ErrNoRoom)):
		return refused("free space there, or lower disk_reserve; the trees are as they were")
	case fullDisk(err):
		return control.Errorf(control.ExitFailed, "the disk is full: %w", err).
			WithHint("going back takes as much space as the files that differ; the trees are as they were")
	case errors.As(err, &target) && target.Op == "open target":
		return control.Errorf(control.ExitUsage, "%w", err)
	}
	return err
}

// paths returns what an operator's path may mean: "tree/path", an absolute path in
// a tree, or, where there is one tree, a path in that.
func (g *group) paths(path string) []string {
	if strings.HasPrefix(path, "/") {
		for _, t := range g.conf.Trees {
			if root := strings.TrimSuffix(t.Path, "/"); change.Within(path, root) {
				return []string{strings.TrimSuffix(t.Name+strings.TrimPrefix(path, root), "/")}
			}
		}
	}
	path = strings.Trim(path, "/")
	paths := []string{path}
	if len(g.conf.Trees) == 1 {
		paths = append(paths, change.Join(g.conf.Trees[0].Name, path))
	}
	return paths
}

// firstPath calls f with what a path may mean, until it is there.
func (g *group) firstPath(path string, f func(path string) error) (err error) {
	for _, p := range g.paths(path) {
		if e := f(p); !errors.Is(e, apply.ErrNotThere) {
			return e
		} else if err == nil {
			err = e
		}
	}
	return err
}

// Rewind goes back to a retained barrier; see [control.HistoryBackend].
func (n *node) Rewind(ctx context.Context, req control.RewindRequest) (reply *control.RewindReply, err error) {
	err = n.onStandby(ctx, req.Group, "rewind", func(ctx context.Context, s *receiving) error {
		if err := s.applier.Rewind(ctx, req.To); err != nil {
			return err
		}
		cert, _ := s.applier.Applied()
		reply = &control.RewindReply{Group: s.name, Barrier: control.BarrierOf(cert), Paused: s.applier.Paused()}
		if newest, ok := s.applier.Rewound(); ok {
			reply.Newest = &newest
		}
		s.event(control.EventRewound, map[string]string{"barrier": cert.ID.String()},
			"the trees are rewound to barrier %s; applying is paused", cert.ID)
		s.receiver.Notify()
		s.signal()
		return nil
	})
	return reply, err
}

// Restore takes one path out of a retained barrier; see [control.HistoryBackend].
func (n *node) Restore(ctx context.Context, req control.RestoreRequest) (reply *control.RestoreReply, err error) {
	err = n.onStandby(ctx, req.Group, "restore", func(ctx context.Context, s *receiving) error {
		return s.firstPath(req.Path, func(path string) error {
			out, err := s.applier.Restore(ctx, path, req.At, req.To)
			if err != nil {
				return err
			}
			reply = restored(s.name, out)
			s.event(control.EventRestored, map[string]string{"barrier": req.At.String(), "target": out.Target},
				"%s was taken out of barrier %s", path, req.At)
			return nil
		})
	})
	return reply, err
}

func restored(group string, all ...apply.Restored) *control.RestoreReply {
	reply := &control.RestoreReply{Group: group}
	for _, out := range all {
		reply.Targets = append(reply.Targets, out.Target)
		reply.Files += out.Files
		reply.Bytes += out.Bytes
		reply.NotPermitted = append(reply.NotPermitted, out.NotPermitted...)
	}
	slices.Sort(reply.NotPermitted)
	reply.NotPermitted = slices.Compact(reply.NotPermitted)
	return reply
}

// Find lists the barriers with different versions of a path; see
// [control.HistoryBackend].
func (n *node) Find(ctx context.Context, req control.BarriersRequest) (list *control.BarrierList, err error) {
	err = n.onStandby(ctx, req.Group, "find versions", func(ctx context.Context, s *receiving) error {
		list, err = s.find(ctx, req)
		return err
	})
	return list, err
}

func (s *receiving) find(ctx context.Context, req control.BarriersRequest) (*control.BarrierList, error) {
	var versions []apply.Version
	err := s.firstPath(req.Find, func(path string) (err error) {
		versions, err = s.applier.Find(ctx, path)
		return err
	})
	if err != nil {
		return nil, err
	}
	list := &control.BarrierList{Group: s.name, Barriers: []control.BarrierEntry{}}
	now := s.clock.Now()
	for i := range versions {
		if req.Limit > 0 && i == req.Limit {
			break
		}
		v := &versions[i]
		age := control.Seconds(now.Sub(v.Barrier.CutAt))
		e := control.BarrierEntry{Barrier: control.BarrierOf(v.Barrier), Age: &age, State: control.BarrierApplied,
			Files: &v.Barrier.Files, Bytes: &v.Barrier.Bytes, Rewindable: !v.Present,
			Version: &control.PathVersion{Kind: control.KindAbsent, Present: v.Present}}
		if v.Kind != 0 {
			e.Version.Kind, e.Version.Mtime, e.Version.Digest = v.Kind.String(), control.TimeOf(v.Mtime.Time()), v.Digest
			if v.Kind == change.KindFile {
				e.Version.Bytes = &v.Size
			}
		}
		list.Barriers = append(list.Barriers, e)
	}
	return list, nil
}

// barriers lists those of the catalog and those of the history, newest first.
func (s *receiving) barriers(req control.BarriersRequest) (*control.BarrierList, error) {
	list, err := s.member.barriers(req)
	if err != nil {
		return nil, err
	}
	listed := make(map[change.BarrierID]int)
	for i := range list.Barriers {
		listed[list.Barriers[i].ID] = i
	}
	now := s.clock.Now()
	for _, c := range s.applier.Retained() {
		if i, ok := listed[c.ID]; ok {
			list.Barriers[i].Rewindable = true
			continue
		}
		age := control.Seconds(now.Sub(c.CutAt))
		list.Barriers = append(list.Barriers, control.BarrierEntry{Barrier: control.BarrierOf(c), Age: &age, State: control.BarrierApplied,
			Files: &c.Files, Bytes: &c.Bytes, Rewindable: true})
	}
	if b, ok := s.receiver.Received(); ok && b.ID.Compare(newest(list.Barriers)) > 0 { // it isn't in the catalog before it is applied
		list.Barriers = append(list.Barriers, barrierEntry(catalog.StoredBarrier{Barrier: b, State: catalog.BarrierReceived}, now))
	}
	slices.SortStableFunc(list.Barriers, func(x, y control.BarrierEntry) int { return y.ID.Compare(x.ID) })
	if req.Limit > 0 && len(list.Barriers) > req.Limit {
		list.Barriers = list.Barriers[:req.Limit]
	}
	return list, nil
}

// newest is the highest id of a list; zero for an empty one.
func newest(list []control.BarrierEntry) (id change.BarrierID) {
	for i := range list {
		if list[i].ID.Compare(id) > 0 {
			id = list[i].ID
		}
	}
	return id
}
