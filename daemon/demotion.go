package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/config"
	"repld/control"
	"repld/health"
	"repld/role"
)

// demote stops the services by the demote hooks, and then the database servers of a node
// that must not serve any more. A cutover does that later, when the peer has their logs.
func (r *roles) demote(ctx context.Context, s role.State) error {
	limited, cancel := r.limit(ctx, r.conf.Coordination.DatabasesWithin)
	err := r.runHooks(limited, role.DemoteHooks, s)
	cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	limited, cancel = r.limit(ctx, 0)
	defer cancel()
	if failed := r.stopServers(limited, s); failed != nil {
		err = errors.Join(err, failed)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		r.hasStopped()
	}
	return err
}

// demoteForCutover runs the demote hooks alone. The node counts as one that may serve until
// its servers are down, too.
func (r *roles) demoteForCutover(ctx context.Context, s role.State) error {
	limited, cancel := r.limit(ctx, 0)
	defer cancel()
	err := r.runHooks(limited, role.DemoteHooks, s)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// limit bounds what is to stop, so that what hangs is killed before the peer can take the
// lease; spare is left to what stops after it.
func (r *roles) limit(ctx context.Context, spare time.Duration) (context.Context, context.CancelFunc) {
	if k := r.coordination.keeper.Load(); k != nil {
		return k.Limit(ctx, spare)
	}
	return context.WithCancel(ctx)
}

// mustRest reports whether the servers of a node in this state must not take writes,
// beside what a plan does about them: the node produced and was told to stop, or a lease
// decides and it has none. Without coordination one that is held may go on any moment,
// and its servers were running when it stopped.
func (r *roles) mustRest(s role.State) bool {
	switch {
	case alone(s) && r.primary(), s.Stored.Role == role.Standby:
		return false
	case s.Stored.Role == role.Production:
		return r.policy.Coordinated || s.Plan.Kind == role.StepDown
	}
	return true
}

// stopServers shuts down the servers of a node that must not serve, at once: nobody
// takes over what they have.
func (r *roles) stopServers(ctx context.Context, s role.State) error {
	if !r.mustRest(s) {
		return nil
	}
	var all errgroup.Group
	for _, g := range r.groups {
		for _, c := range g.conf.Databases {
			if isCache(c) {
				continue
			}
			all.Go(func() error { return g.restServer(ctx, c, s) })
		}
	}
	return all.Wait()
}

// restServer shuts one down, and notes that it is to be started with the services.
func (g *group) restServer(ctx context.Context, c config.Database, s role.State) error {
	f, err := g.loadStage(c.Name)
	switch {
	case err != nil:
		g.logger.Error("what became of a database", "group", g.name, "database", c.Name, "error", err)
	case s.Stored.Role != role.Production && f.Stage != stageServed:
		return nil // nobody else's: it is none of this node's history
	}
	if g.serverDown(ctx, c) {
		g.rests(c, nil)
		return nil
	}
	if _, stop := commands(c); len(stop) == 0 {
		g.rests(c, noCommand(c, "stop"))
		return nil // hooks are all that there is
	}
	if err := g.editStage(c.Name, func(f *databaseFile) { f.Rests = true }); err != nil {
		g.logger.Error("note that a server is to be started again", "group", g.name, "database", c.Name, "error", err)
	}
	begun := g.clock.Mono()
	if err := g.stopServer(ctx, c); err != nil && !g.serverDown(ctx, c) {
		g.rests(c, err)
		return err
	}
	g.rests(c, nil)
	g.event(control.EventDatabase, map[string]string{"database": c.Name}, "database %s is shut down after %v, since this node doesn't serve",
		c.Name, (g.clock.Mono() - begun).Round(time.Millisecond))
	return nil
}

// rests shows why a server may still take writes that should not, until it is known not
// to (nil).
func (g *group) rests(c config.Database, err error) {
	if err == nil {
		g.board.Resolve(health.HookFailed, g.name, c.Name)
		return
	}
	cond := health.Condition{Code: health.HookFailed, Group: g.name, Subject: c.Name,
		Text: fmt.Sprintf("the server of database %s may take writes, though this node doesn't serve: %v", c.Name, err)}
	if e := control.AsError(err); e.Hint != "" {
		cond.Hint = "stop it by hand; " + e.Hint
	}
	g.board.Raise(cond)
}

// serverDown reports whether a server provably doesn't run.
func (g *group) serverDown(ctx context.Context, c config.Database) bool {
	e, ok := engines[c.Engine]
	if !ok || e.down == nil {
		return false
	}
	text, err := dsn(c)
	return err == nil && e.down(ctx, text)
}

// startServers starts the servers that were shut down since this node didn't serve.
// Services follow.
func (r *roles) startServers(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, g := range r.groups {
		resting := map[string]bool{}
		for _, c := range g.conf.Databases {
			f, err := g.loadStage(c.Name)
			if err != nil {
				return err
			}
			if f.Rests && !isCache(c) {
				resting[c.Name] = true
			}
		}
		if len(resting) == 0 {
			continue
		}
		all.Go(func() error {
			return r.with(ctx, g.name, func(ctx context.Context, s side) error {
				p, ok := s.(*sending)
				if !ok {
					return errors.New("the group does not send")
				}
				return p.startThese(ctx, resting)
			})
		})
	}
	return all.Wait()
}

// started forgets that a server was shut down.
func (g *group) started(c config.Database) error {
	g.rests(c, nil)
	return g.editStage(c.Name, func(f *databaseFile) { f.Rests = false })
}
