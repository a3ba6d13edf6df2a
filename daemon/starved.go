package daemon

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/control"
	"repld/health"
)

// A node whose own files can't be written to because their disk is full stops
// working and waits for space, answering on its control socket meanwhile. Then it
// opens everything anew, as after a crash: what a failed write leaves of the log
// or the catalog is only certain after that. The trees are as they were. Without
// file descriptors or memory it does the same.

// errFull carries the reason for which a node that was running stopped.
type errFull struct{ error }

func (e errFull) Unwrap() error { return e.error }

// fullDisk reports whether err says that no space is left.
func fullDisk(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// passing reports whether err is a want that can pass.
func passing(err error) bool {
	return fullDisk(err) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// stoppedBy marks the end of a running node for a want that can pass.
func stoppedBy(err error) error {
	if passing(err) {
		return errFull{err}
	}
	return err
}

// starved is the [control.Backend] of a node that waits for space.
type starved struct {
	state control.Status
	cause error
}

// fullCondition says on which file system there is no space left, or what else is
// wanting.
func fullCondition(state string, cause error) health.Condition {
	if !fullDisk(cause) {
		return health.Condition{Code: health.BarrierLate, Subject: state, Severity: health.Critical,
			Text: fmt.Sprintf("nothing can be replicated: %v", cause), Hint: "raise the limit (ulimit -n, LimitNOFILE=, MemoryMax=); the daemon goes on by itself"}
	}
	return health.Condition{Code: health.DiskLow, Subject: state,
		Text: fmt.Sprintf("the file system of the state directory %s is full, so nothing can be replicated: %v", state, cause)}
}

// waitForSpace serves the control socket of a node that has stopped with cause, for
// a while.
func waitForSpace(ctx context.Context, last control.Status, state string, cause error, wait time.Duration, o Options) error {
	dir, err := openState(state)
	if err != nil {
		return err
	}
	defer dir.close()
	ln, err := control.Listen(dir.file(control.SocketName))
	if err != nil {
		o.Logger.Error("answer while there is no space", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		return nil
	}
	s := &starved{state: last, cause: cause}
	if s.state.Peer != nil {
		s.state.Peer.Link = control.LinkDown
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return control.NewServer(ln, s, control.ServerOptions{Logger: o.Logger}).Run(ctx) })
	return g.Wait()
}

func (s *starved) refuse() error {
	return control.Errorf(control.ExitRefused, "nothing is replicated: %w", s.cause).WithState(string(control.PhaseHalted)).
		WithHint("replctl status names what is wanting; the daemon goes on by itself")
}

// Status is the last that the node said, with the reason for its silence.
func (s *starved) Status(context.Context) (*control.Status, error) { st := s.state; return &st, nil }

// Barrier is refused, as are all the others.
func (s *starved) Barrier(context.Context, control.BarrierRequest) (*control.BarrierReply, error) {
	return nil, s.refuse()
}

// Barriers is refused.
func (s *starved) Barriers(context.Context, control.BarriersRequest) (*control.BarrierList, error) {
	return nil, s.refuse()
}

// Verify is refused.
func (s *starved) Verify(context.Context, control.VerifyRequest, func(control.VerifyProgress)) (*control.VerifyReport, error) {
	return nil, s.refuse()
}

// Pause is refused.
func (s *starved) Pause(context.Context, control.ApplyRequest) error { return s.refuse() }

// Resume is refused.
func (s *starved) Resume(context.Context, control.ApplyRequest) error { return s.refuse() }

// Events is refused.
func (s *starved) Events(context.Context, control.EventsRequest, func(control.Event) error) error {
	return s.refuse()
}

// statusOf is what n can say of itself once it has stopped.
func (n *node) statusOf(cause error) control.Status {
	s := n.status()
	c := fullCondition(n.opts.State, cause)
	n.board.Raise(c)
	s.Health = n.board.List()
	s.Groups = []control.Group{{Name: quickGroup, Phase: control.PhaseHalted, Trees: []control.TreePath{{Name: quickTree, Path: n.dir}}}}
	return *s
}

// recovering shows what was wanting until the node has worked for a while.
func (n *node) recovering(ctx context.Context, cause error, while time.Duration) {
	c := fullCondition(n.opts.State, cause)
	n.board.Raise(c)
	go func() {
		select {
		case <-ctx.Done():
		case <-time.After(while):
			n.board.Resolve(c.Code, c.Group, c.Subject)
		}
	}()
}
