package daemon

import (
	"context"

	"repld/apply"
	"repld/control"
	"repld/control/view"
)

// Salvages lists what was set aside; see [control.HistoryBackend].
func (n *node) Salvages(ctx context.Context, req control.SalvagesRequest) (list *control.SalvageList, err error) {
	err = n.onStandby(ctx, req.Group, "list what was set aside", func(_ context.Context, s *receiving) error {
		sets, err := s.applier.Salvages()
		if err != nil {
			return err
		}
		list = &control.SalvageList{Group: s.name}
		for i := range sets {
			if req.ID != "" && sets[i].ID != req.ID {
				continue
			}
			set := control.SalvageSet{ID: sets[i].ID, At: control.TimeOf(sets[i].At), By: sets[i].By, Reasons: sets[i].Reasons,
				Count: sets[i].Entries, Bytes: sets[i].Bytes}
			if set.Reasons == nil {
				set.Reasons = []string{}
			}
			if req.ID != "" {
				if err := s.salvageEntries(&set, req.Limit); err != nil {
					return err
				}
			}
			list.Sets = append(list.Sets, set)
		}
		if req.ID != "" && len(list.Sets) == 0 {
			return s.applier.SalvagedEntries(req.ID, func(apply.SalvagedEntry) error { return nil })
		}
		return nil
	})
	return list, err
}

// salvageEntries adds the entries of a set.
func (s *receiving) salvageEntries(set *control.SalvageSet, limit int) error {
	return s.applier.SalvagedEntries(set.ID, func(e apply.SalvagedEntry) error {
		if limit == 0 || len(set.Entries) < limit {
			set.Entries = append(set.Entries, control.SalvageEntry{At: control.TimeOf(e.At), Path: e.Path, Kept: e.Kept, Kind: e.Kind,
				Bytes: e.Size, Mtime: control.TimeOf(e.Mtime), Reason: e.Reason})
		}
		return nil
	})
}

// RemoveSalvage removes what was set aside; see [control.HistoryBackend].
func (n *node) RemoveSalvage(ctx context.Context, req control.RemoveSalvageRequest) (reply *control.SalvageSet, err error) {
	err = n.onStandby(ctx, req.Group, "remove what was set aside", func(ctx context.Context, s *receiving) error {
		set, err := s.applier.RemoveSalvaged(ctx, req.ID)
		if err != nil {
			return err
		}
		reply = &control.SalvageSet{ID: set.ID, At: control.TimeOf(set.At), By: set.By, Reasons: set.Reasons, Count: set.Entries, Bytes: set.Bytes}
		s.event(control.EventSalvageRemoved, map[string]string{"salvage": req.ID}, "what was set aside as %s was removed: %s, %s",
			req.ID, view.Count(set.Entries, "object"), view.Bytes(set.Bytes))
		return nil
	})
	return reply, err
}

// RestoreSalvage copies what was set aside; see [control.HistoryBackend].
func (n *node) RestoreSalvage(ctx context.Context, req control.RestoreSalvageRequest) (reply *control.RestoreReply, err error) {
	err = n.onStandby(ctx, req.Group, "restore what was set aside", func(ctx context.Context, s *receiving) error {
		one := func(path string) error {
			out, err := s.applier.RestoreSalvaged(ctx, req.ID, path, req.To)
			if err != nil {
				return err
			}
			reply = restored(s.name, out...)
			s.event(control.EventRestored, map[string]string{"salvage": req.ID, "target": req.To}, "what was set aside as %s was copied out", req.ID)
			return nil
		}
		if req.Path == "" {
			return one("")
		}
		return s.firstPath(req.Path, one)
	})
	return reply, err
}
