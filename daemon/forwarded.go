package daemon

import (
	"context"
	"errors"
	"time"

	"repld/control"
	"repld/role"
)

// carryThere passes an order on to the peer, which serves, and waits until this node has
// taken over, or it is known that it doesn't. The order, and the news of its end, may be
// lost with a link or a daemon.
func (r *roles) carryThere(ctx context.Context, o role.Order) error {
	ended := make(chan error, 1)
	r.mu.Lock()
	r.ends[o.ID] = ended
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.ends, o.ID)
		r.mu.Unlock()
	}()
	session := r.now().Heard.Session
	if err := r.driver.Carry(ctx, o); err != nil {
		return err
	}
	var silent <-chan time.Time
	for {
		s, changed := r.look()
		mine := s.Plan.ID == o.ID || s.Epoch.Nonce == o.ID
		switch {
		case mine && s.Plan.IsZero():
			return nil
		case mine && s.Plan.Failure != "":
			return errors.New(s.Plan.Failure)
		case mine || s.Link && s.Heard.Busy:
			silent = nil
		case s.Link && s.Heard.Session != session && s.Heard.Role == role.Production:
			return control.Errorf(control.ExitPeer, "the daemon of the peer was started anew before it had handed over: the peer serves").
				WithHint("give the command once more")
		case silent == nil:
			silent = time.After(proofMost)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case err := <-ended:
			if err != nil {
				return err
			}
			ended = nil // it has handed over, and this node takes it
		case <-silent:
			return control.Errorf(control.ExitPeer, "the peer, which was to hand over, says nothing of it any more: what it has come to isn't known here").
				WithHint("replctl status, on both nodes, says which of them serves; then give the command once more")
		}
	}
}
