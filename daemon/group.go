package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"repld/config"
	"repld/control"
	"repld/health"
	"repld/role"
	"repld/tree"
	"repld/wire"
)

// side is the working half of a group on this node.
type side interface {
	// run works until ctx ends or something breaks that opening anew may mend.
	run(ctx context.Context) error
	// session runs a session over a connection, whichever node has opened it.
	session(ctx context.Context, conn *wire.Conn) error
	close()

	// link is the present session's connection, nil if there is none, and forget
	// forgets what the peer has said, for another takes its place.
	link() *wire.Conn
	forget()
	// signal wakes whoever waits for progress.
	signal()

	status() control.Group
	barrier(ctx context.Context, req control.BarrierRequest) (*control.BarrierReply, error)
	barriers(req control.BarriersRequest) (*control.BarrierList, error)
	verify(ctx context.Context, req control.VerifyRequest, progress func(control.VerifyProgress)) (*control.VerifyReport, error)
	pause(ctx context.Context) error
	resume(accept bool) error
	// set takes over settings that may change while it works.
	set(ctx context.Context, live config.GroupLive)
}

// group is a consistency group of this node.
type group struct {
	*node
	name string
	conf config.Group // as it was at the start; what may change: live
	dir  string       // of its state

	mu    sync.Mutex
	live  config.GroupLive
	does  task            // what the side is open for
	side  side            // nil while it doesn't work
	why   error           // why not; nil while it is being opened
	ends  context.Context // ends with the side
	users sync.WaitGroup  // of the side; it is closed after them
	held  chan struct{}   // nil while nothing of the group is open; closed when that is so

	stages sync.Mutex // held while the file of a database is edited

	turned chan struct{} // closed when the side works, or couldn't be opened
}

func newGroup(n *node, c config.Group) (*group, error) {
	dir, err := n.state.group(c.Name)
	return &group{node: n, name: c.Name, conf: c, live: c.GroupLive, dir: dir, turned: make(chan struct{})}, err
}

func (g *group) file(name string) string { return filepath.Join(g.dir, name) }

// Pauses between attempts to open a group that has failed, and how long it must
// have worked to count as mended.
const (
	reopenFirst = time.Second
	reopenMost  = 10 * time.Second
)

// closesWithin is how long a group may take to close after a change of roles.
const closesWithin = 20 * time.Second

// run does what the node's role wants of the group until ctx ends: it opens the side
// for it, and another one when that changes.
func (g *group) run(ctx context.Context) error {
	for first := true; ; first = false {
		t, err := g.roles.awaitTask(ctx, func(t task) bool { return t.does != role.Nowhere })
		if err != nil {
			return err
		}
		during, cancel := context.WithCancel(ctx)
		changed := make(chan struct{})
		go func() {
			defer close(changed)
			_, _ = g.roles.awaitTask(during, func(now task) bool { return now != t })
			cancel()
		}()
		release, wanted := g.hold(t)
		if wanted {
			err = g.keep(during, t, first)
			release()
		}
		ended := !wanted || during.Err() != nil
		cancel()
		<-changed
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !ended {
			return err
		}
	}
}

// hold says that something of the group is open until release, if its task is still wanted:
// whoever wants it closed, which no task does, looks for that after the task has changed.
func (g *group) hold(t task) (release func(), wanted bool) {
	held := make(chan struct{})
	g.mu.Lock()
	g.held = held
	g.mu.Unlock()
	release = func() {
		g.mu.Lock()
		g.held = nil
		g.mu.Unlock()
		close(held)
	}
	if g.roles.taskOf(g.roles.now()) != t {
		release()
		return nil, false
	}
	return release, true
}

// closed waits until nothing of the group is open, which a change of roles has closed.
func (g *group) closed(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, closesWithin, fmt.Errorf("group %s is still working after %v: what only this node has is looked for once it has stopped", g.name, closesWithin))
	defer cancel()
	for {
		g.mu.Lock()
		held := g.held
		g.mu.Unlock()
		if held == nil {
			return nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// keep keeps the group at a task until ctx ends. In quick mode a group that can't be
// opened at the start ends the daemon.
func (g *group) keep(ctx context.Context, t task, atStart bool) error {
	wait := reopenFirst
	for first := atStart; ; first = false {
		began := g.clock.Mono()
		err := g.open(ctx, t)
		for range g.parts() {
			if !isDamage(err) {
				break
			}
			g.setAside(err)
			err = g.open(ctx, t)
		}
		if err != nil && ctx.Err() == nil && first && g.node.opts.quick != nil {
			return err
		}
		if err == nil {
			err = g.work(ctx, first)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if g.clock.Mono()-began > reopenMost {
			wait = reopenFirst
		}
		g.setAside(err)
		g.failed(err)
		g.logger.Error("a group stops and will be opened anew", "group", g.name, "error", err, "retry in", wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, reopenMost)
	}
}

// open opens the group's side for a task. It may take long where what only this node has
// is to be kept; the end of ctx gives that up, and the next open begins it again.
func (g *group) open(ctx context.Context, t task) error {
	var s side
	var err error
	g.mu.Lock()
	g.does = t
	g.mu.Unlock()
	if t.does == role.Sends {
		s, err = openSending(g)
	} else {
		s, err = openReceiving(ctx, g)
	}
	if err != nil {
		return explain(err)
	}
	g.mu.Lock()
	g.side = s
	g.mu.Unlock()
	return nil
}

// task is what the group's side is, or was last, open for.
func (g *group) task() task {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.does
}

// work runs an open side until it ends, and closes it when nobody uses it any more.
func (g *group) work(ctx context.Context, first bool) error {
	ctx, cancel := context.WithCancel(ctx)
	g.mu.Lock()
	s := g.side
	g.ends, g.why = ctx, nil
	g.turn()
	g.mu.Unlock()
	defer func() {
		cancel()
		g.mu.Lock()
		g.side = nil
		g.mu.Unlock()
		g.users.Wait()
		s.close()
	}()
	if first && g.node.opts.quick != nil && g.task().does == role.Takes {
		if err := g.printToken(); err != nil {
			return err
		}
	}
	mended := time.AfterFunc(reopenMost, g.mended)
	defer mended.Stop()
	return s.run(ctx)
}

// use returns the group's side and a context that ends with it, for as long as
// leave isn't called; or a refusal.
func (g *group) use(ctx context.Context) (s side, during context.Context, leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.side == nil || g.ends == nil || g.ends.Err() != nil {
		return nil, nil, nil, g.refusal()
	}
	g.users.Add(1)
	during, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(g.ends, func() { cancel(errSideEnded) })
	return g.side, during, func() { stop(); cancel(nil); g.users.Done() }, nil
}

// opened waits until the group works, or it is known why not: a barrier that was being
// published at the last stop is finished first, and a change of roles opens another side.
func (g *group) opened(ctx context.Context) error {
	for {
		state, changed := g.roles.look()
		t := g.roles.taskOf(state)
		g.mu.Lock()
		// Not the side of a former task, which is about to end.
		works := g.side != nil && g.ends != nil && g.ends.Err() == nil && g.does == t
		settled, turned := works || g.why != nil, g.turned
		g.mu.Unlock()
		if idle := t.does == role.Nowhere && state.Phase != role.Asking; settled || idle {
			return nil
		}
		select {
		case <-changed:
		case <-turned:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// turn wakes those who wait for the group to work; the lock is held.
func (g *group) turn() {
	close(g.turned)
	g.turned = make(chan struct{})
}

// errSideEnded is why a call ends when the group's side does.
var errSideEnded = errors.New("the group has stopped working")

// settings are those that may change while the group works, as they are now.
func (g *group) settings() config.GroupLive {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.live
}

// openSubject is the subject of conditions that say why a group doesn't work, and
// failures are their codes.
const openSubject = "group"

var failures = []health.Code{health.GroupFailed, health.DiskLow, health.GuardHalted}

// failed says why the group doesn't work.
func (g *group) failed(err error) {
	g.mu.Lock()
	g.why = err
	g.turn()
	g.mu.Unlock()
	c := conditionOf(err)
	c.Group, c.Subject = g.name, openSubject
	for _, code := range failures {
		if code != c.Code {
			g.board.Resolve(code, g.name, openSubject)
		}
	}
	g.board.Raise(c)
}

// mended takes back what failed has said.
func (g *group) mended() {
	for _, code := range failures {
		g.board.Resolve(code, g.name, openSubject)
	}
}

// conditionOf says what keeps a group from working.
func conditionOf(err error) health.Condition {
	c := health.Condition{Code: health.GroupFailed, Text: fmt.Sprintf("the group doesn't work: %v", err)}
	if e := control.AsError(explain(err)); e != nil {
		c.Hint = e.Hint
	}
	var root *tree.Error
	switch {
	case fullDisk(err):
		c.Code, c.Hint = health.DiskLow, ""
	case errors.As(err, &root):
		c.Code = health.GuardHalted
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		c.Hint = "raise the limit (ulimit -n, LimitNOFILE=, MemoryMax=); the group goes on by itself"
	}
	return c
}

// fullDisk reports whether err says that no space is left.
func fullDisk(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// refusal says why the group doesn't work; the lock is held.
func (g *group) refusal() error {
	if s := g.roles.now(); g.roles.taskOf(s).does == role.Nowhere {
		return control.Errorf(control.ExitRefused, "group %s doesn't work: this node is %s: %s", g.name, s.Role(), s.Why()).WithState(string(s.Status())).
			WithHint("see replctl status")
	}
	if g.why == nil {
		return control.Errorf(control.ExitRefused, "group %s is being opened", g.name).WithState("opening").
			WithHint("ask again in a moment")
	}
	e := control.Errorf(control.ExitRefused, "group %s doesn't work: %w", g.name, g.why).WithState(string(control.PhaseHalted))
	if known := control.AsError(explain(g.why)); known.Hint != "" {
		return e.WithHint("%s", known.Hint)
	}
	return e.WithHint("replctl status names what is wanting; the group goes on by itself")
}

// serve runs a session over a connection that the peer has opened for the group.
func (g *group) serve(ctx context.Context, conn *wire.Conn) {
	s, ctx, leave, err := g.use(ctx)
	if err != nil {
		conn.Close(&wire.RefusedError{Code: wire.CodeBusy, Text: err.Error()})
		return
	}
	defer leave()
	_ = s.session(ctx, conn) // the other node opens the next
}

// status is what can be said of the group.
func (g *group) status(ctx context.Context) control.Group {
	s, _, leave, err := g.use(ctx)
	if err == nil {
		defer leave()
		return s.status()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	status := control.Group{Name: g.name, Phase: control.PhaseDisconnected, Trees: g.trees()}
	if g.why != nil {
		status.Phase = control.PhaseHalted
	}
	return status
}

func (g *group) trees() []control.TreePath {
	var list []control.TreePath
	for _, t := range g.conf.Trees {
		list = append(list, control.TreePath{Name: t.Name, Path: t.Path})
	}
	return list
}

// event notes that something happened to the group.
func (g *group) event(typ control.EventType, attrs map[string]string, format string, args ...any) {
	e := control.Event{Type: typ, Group: g.name, Text: fmt.Sprintf(format, args...), Attrs: attrs}
	g.note(e)
	g.logger.Info(e.Text, "event", string(typ), "group", g.name)
}
