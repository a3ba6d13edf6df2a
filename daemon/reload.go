package daemon

import (
	"context"
	"strings"

	"repld/config"
	"repld/control"
	"repld/role"
)

// reload reads the configuration again whenever it is asked to, until ctx ends. One
// that is wrong changes nothing; keys that hold from the next start on are named.
func (n *node) reload(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.opts.Reload:
		}
		n.notify.Reloading()
		n.reread(ctx)
		n.notify.Ready(n.summary(ctx))
	}
}

func (n *node) reread(ctx context.Context) {
	next, err := n.opts.Reread()
	if err != nil {
		n.event(control.EventReloadFailed, nil, "the configuration is not taken over: %v", err)
		return
	}
	n.mu.Lock()
	was := n.live
	n.mu.Unlock()
	before := *n.conf
	before.Live = was
	before.Groups = nil
	for _, g := range n.groups {
		c := g.conf
		c.GroupLive = g.settings()
		before.Groups = append(before.Groups, c)
	}
	changes := config.Diff(&before, next)
	if err := n.takeOver(ctx, next); err != nil {
		n.event(control.EventReloadFailed, nil, "the configuration is not taken over: %v", err)
		return
	}
	attrs := map[string]string{"changed": strings.Join(changes.Live, " "), "restart": strings.Join(changes.Restart, " ")}
	text := "the configuration was read again"
	if changes.None() {
		text += ": nothing has changed"
	}
	if len(changes.Live) > 0 {
		text += ", with changes in " + strings.Join(changes.Live, ", ")
	}
	if len(changes.Restart) > 0 {
		text += "; changes of " + strings.Join(changes.Restart, ", ") + " hold from the next start on"
	}
	n.event(control.EventReloaded, attrs, "%s", text)
}

// takeOver makes the settings of next that may change those of this node.
func (n *node) takeOver(ctx context.Context, next *config.Config) error {
	if err := n.alerter.Set(sinksOf(next.Alerts)); err != nil {
		return err
	}
	n.mu.Lock()
	n.live = next.Live
	n.mu.Unlock()
	if err := n.roles.driver.Tell(role.FenceConfigured{Has: len(next.Hooks.Fence) > 0}); err != nil {
		return err
	}
	if n.opts.LogLevel != nil && next.LogLevel != nil {
		n.opts.LogLevel.Set(*next.LogLevel)
	}
	for _, c := range next.Groups {
		if g, err := n.byName(c.Name); err == nil {
			g.set(ctx, c.GroupLive)
		}
	}
	return nil
}

// set makes live the group's settings.
func (g *group) set(ctx context.Context, live config.GroupLive) {
	g.mu.Lock()
	g.live = live
	g.mu.Unlock()
	if s, during, leave, err := g.use(ctx); err == nil {
		defer leave()
		s.set(during, live)
	}
}
