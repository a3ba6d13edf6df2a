package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"repld/control"
	"repld/role"
)

// A peer that was just lost counts as heard until its link has been silent for the idle
// time-out. A failover that is ordered in between would be refused, since the peer seems
// to serve, or wait for its answer. And one that has just come counts as lost until it has
// said what it is. One that was promoted and starts is down until it has asked this node.
const (
	answerSoon  = time.Second      // a peer that works answers a question of the pair
	judgeWithin = 10 * time.Second // more than a silent link takes to count as down

	decideWithin = 3 * time.Second // a node that starts and asks its peer first serves by then
)

// judged returns the state once it tells whether the peer can be reached: at once if the
// link is down or the peer answers, else when the link counts as down.
func (r *roles) judged(ctx context.Context, progress func(control.RoleProgress)) role.State {
	if s := r.now(); !s.Link || r.peerAnswers(ctx, answerSoon) {
		return s
	}
	if progress != nil {
		progress(control.RoleProgress{Node: r.name, At: control.TimeOf(r.clock.Now()), Type: control.EventPlanStep,
			Text: fmt.Sprintf("the peer doesn't answer; its link counts as down soon, which is waited for, %v at most", judgeWithin)})
	}
	ctx, cancel := context.WithTimeout(ctx, judgeWithin)
	defer cancel()
	go func() {
		if r.peerAnswers(ctx, judgeWithin) {
			cancel() // it was slow
		}
	}()
	s, _ := r.await(ctx, func(s role.State) bool { return !s.Link })
	return s
}

// introduced waits until the peer of a link that is up has said what it is, and returns the
// state.
func (r *roles) introduced(ctx context.Context) role.State {
	ctx, cancel := context.WithTimeout(ctx, judgeWithin)
	defer cancel()
	go func() {
		if r.waitFor(ctx, func() bool { return r.conn == nil }) == nil {
			cancel()
		}
	}()
	s, _ := r.await(ctx, func(s role.State) bool { return s.Link || r.link() == nil })
	return s
}

// settling waits until a peer is what an order is to find: for a rejoin one that was
// promoted, and has just started, knows whether it serves; for a failover one that carries
// out a plan may be about to end it. It returns the state.
func (r *roles) settling(ctx context.Context, c role.Command) role.State {
	ctx, cancel := context.WithTimeout(ctx, decideWithin)
	defer cancel()
	s, _ := r.await(ctx, func(s role.State) bool {
		h := s.Heard
		switch {
		case !s.Link:
			return true
		case c == role.DoRejoin:
			return h.Role != role.Down || h.Stored != role.Production || h.Epoch.Number <= s.Epoch.Number
		case c == role.DoFailover:
			return !h.Busy
		}
		return true
	})
	return s
}

// peerAnswers reports whether the peer answers a question in time, whatever it says.
func (r *roles) peerAnswers(ctx context.Context, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return r.askAnything(ctx) == nil
}

// askAnything asks the peer a question; an error is that it has not answered.
func (r *roles) askAnything(ctx context.Context) error {
	err := r.askPeer(ctx, askPromoted, nil, nil)
	var said *control.Error
	if errors.As(err, &said) {
		return nil
	}
	return err
}
