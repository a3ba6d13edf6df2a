package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"repld/config"
	"repld/control"
	"repld/health"
	"repld/hook"
	"repld/role"
)

// hooksOf are the hooks of a list, as the configuration has them now.
func (r *roles) hooksOf(list role.Hooks) []hook.Hook {
	r.node.mu.Lock()
	c := r.live.Hooks
	r.node.mu.Unlock()
	var of []config.Hook
	switch list {
	case role.PromoteHooks:
		of = c.Promote
	case role.DemoteHooks:
		of = c.Demote
	case role.FenceHooks:
		of = c.Fence
	case role.CheckHooks:
		of = c.Check
	}
	var hooks []hook.Hook
	for _, h := range of {
		hooks = append(hooks, hookOf(h))
	}
	return hooks
}

func hookOf(c config.Hook) hook.Hook {
	h := hook.Hook{Exec: c.Exec, Timeout: c.Timeout, Retry: c.Retry, OnError: hook.OnError(c.OnError)}
	if s := c.Systemd; s != nil {
		h.Systemd = &hook.Systemd{Enable: s.Enable, Disable: s.Disable, Start: s.Start, Stop: s.Stop}
	}
	if s := c.HTTP; s != nil {
		h.HTTP = &hook.HTTP{Method: s.Method, URL: s.URL, Expect: s.Expect, Contains: s.Contains}
	}
	if a := c.Address; a != nil {
		h.Address = &hook.Address{Prefix: a.Prefix, Dev: a.Dev, Remove: a.Remove}
	}
	if d := c.DNS; d != nil {
		h.DNS = &hook.DNS{Server: d.Server, Zone: d.Zone, Set: map[string][]netip.Addr{}, TTL: d.TTL, KeyFile: d.KeyFile}
		for _, record := range d.Set {
			h.DNS.Set[record.Name] = record.Addresses
		}
	}
	return h
}

// Hooks runs a list; see [role.Steps].
func (r *roles) Hooks(ctx context.Context, list role.Hooks, s role.State) error {
	switch list {
	case role.PromoteHooks:
		if r.unopened(s) { // the plan that was to do it is gone
			if err := r.openReplicas(ctx, s); ctx.Err() != nil {
				return ctx.Err()
			} else if err != nil {
				return r.notStarted(err)
			}
		}
		if err := r.starting(); err != nil {
			return r.notStarted(err)
		}
		err := r.startServers(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return r.notStarted(err)
		}
	case role.DemoteHooks:
		return r.demote(ctx, s)
	}
	return r.runHooks(ctx, list, s)
}

// notStarted shows why the promote hooks don't run.
func (r *roles) notStarted(err error) error {
	r.board.Raise(health.Condition{Code: health.HookFailed, Subject: string(role.PromoteHooks), Text: fmt.Sprintf("services are not started: %v", err)})
	return err
}

func (r *roles) runHooks(ctx context.Context, list role.Hooks, s role.State) error {
	if alone(s) && r.primary() {
		return nil // repld was installed beside services that run, and has no say yet
	}
	hooks := r.hooksOf(list)
	run := r.runner.Run
	if list == role.FenceHooks {
		run = r.runner.Fence
	}
	results, err := run(ctx, hooks, r.facts(list, s))
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	failed := slices.ContainsFunc(results, func(res hook.Result) bool { return res.Err != nil })
	if failed || err != nil {
		var texts []string
		for _, res := range results {
			if res.Err != nil {
				texts = append(texts, res.Text())
			}
		}
		if len(texts) == 0 {
			texts = []string{err.Error()}
		}
		r.board.Raise(health.Condition{Code: health.HookFailed, Subject: string(list), Text: fmt.Sprintf("%s hooks: %s", list, strings.Join(texts, "; "))})
	} else {
		r.board.Resolve(health.HookFailed, "", string(list))
	}
	return err
}

// facts are what the hooks of a list are told.
func (r *roles) facts(list role.Hooks, s role.State) hook.Facts {
	becoming := s
	becoming.Plan = role.Progress{}
	switch list {
	case role.PromoteHooks, role.CheckHooks:
		becoming.Stored.Role, becoming.Phase = role.Production, role.Settled
	case role.DemoteHooks, role.FenceHooks:
		if becoming.Stored.Role == role.Production {
			becoming.Stored.Role = role.Down
		}
	}
	peer, _, _ := r.peerNow()
	f := hook.Facts{Node: r.name, Peer: peer.Name, List: string(list), Role: string(becoming.Role()), Status: string(becoming.Status()), Epoch: uint64(s.Epoch.Number)}
	for _, b := range r.promotedAt().Groups {
		f.Barriers = append(f.Barriers, b.Group+"="+b.Barrier.String())
	}
	return f
}

// reportHook notes what came of a hook.
func (r *roles) reportHook(f hook.Facts, res hook.Result) {
	e := control.Event{Type: control.EventHookRan, Text: fmt.Sprintf("%s hook: %s", f.List, res.Text()),
		Attrs: map[string]string{"hook": res.Hook, "list": f.List, "attempts": fmt.Sprint(res.Attempts), "seconds": fmt.Sprintf("%.3f", res.Took.Seconds())}}
	if res.Output != "" {
		e.Attrs["output"] = res.Output
	}
	if res.Err != nil {
		e.Type = control.EventHookFailed
	}
	r.note(e)
	r.logger.Info(e.Text, "event", string(e.Type))
	r.tellFollowers(e)
}

// hooksReady says which hooks could not work on this machine.
func (r *roles) hooksReady(ctx context.Context) error {
	var errs []error
	for _, list := range []role.Hooks{role.PromoteHooks, role.DemoteHooks, role.CheckHooks, role.FenceHooks} {
		for _, h := range r.hooksOf(list) {
			if err := r.runner.Ready(ctx, &h); err != nil {
				errs = append(errs, fmt.Errorf("%s hook %s: %w", list, h.String(), err))
			}
		}
	}
	return errors.Join(errs...)
}
