package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"repld/control"
	"repld/role"
	"repld/wire"
)

// The notes about an order that is given on the node that stands by, and carried out by the
// other one. They are transmitted.
const (
	noteOrderAgain = "order-again" // to the one that carries it out, over each new link
	noteOrderEnded = "order-ended" // to the one where it was given: what came of it
)

// orderAgain is an order that may have been lost with a link. A run of the receiver
// carries out each order once, and another run than For none.
type orderAgain struct {
	For   role.Nonce `json:"for"`
	Order role.Order `json:"order"`
}

type orderEnded struct {
	ID    role.Nonce     `json:"id"`
	Error *control.Error `json:"error,omitempty"`
}

// carryThere passes an order on to the peer, which serves, and waits until this node has
// taken over, or it is known that it doesn't. The order, and the news of its end, may be
// lost with a link, after which it is passed on again, or with a daemon.
func (r *roles) carryThere(ctx context.Context, o role.Order) error {
	ended := make(chan error, 1)
	r.mu.Lock()
	r.ends[o.ID] = ended
	r.mu.Unlock()
	defer func() {
		r.withdraw(o.ID)
		r.mu.Lock()
		delete(r.ends, o.ID)
		r.mu.Unlock()
	}()
	over, first := r.link(), r.now()
	session, epoch := first.Heard.Session, first.Epoch
	if err := r.driver.Carry(ctx, o); err != nil {
		return err
	}
	silence := cmp.Or(r.opts.proofMost, proofMost)
	var silent <-chan time.Time
	for {
		s, changed := r.look()
		link := r.link()
		mine := s.Plan.ID == o.ID || s.Epoch.Nonce == o.ID
		serves := s.Link && s.Heard.Role == role.Production
		switch {
		case mine && s.Plan.IsZero():
			return nil
		case mine && s.Plan.Failure != "":
			return errors.New(s.Plan.Failure)
		case mine || s.Link && s.Heard.Busy:
			silent = nil
		case serves && s.Heard.Session != session:
			return control.Errorf(control.ExitPeer, "the daemon of the peer was started anew before it had handed over: the peer serves").
				WithHint("give the command once more")
		case serves && s.Epoch == epoch && s.Heard.Epoch == epoch && link != nil && link != over:
			over, silent = link, time.After(silence)
			r.passOnAgain(orderAgain{For: session, Order: o})
		case silent == nil:
			silent = time.After(silence)
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

func (r *roles) passOnAgain(again orderAgain) {
	body, err := json.Marshal(again)
	if err != nil {
		r.logger.Error("pass an order on to the peer again", "error", err)
		return
	}
	r.logger.Info("passes an order on again, over a new link: the first may be lost", "order", again.Order.Command)
	r.post(&wire.PairMessage{Kind: wire.PairNote, Verb: noteOrderAgain, Body: body})
}

// withdraw takes back an order that no link has taken yet: nobody waits for it any more,
// and it is not to be carried out when one is back some day.
func (r *roles) withdraw(id role.Nonce) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outbox = slices.DeleteFunc(r.outbox, func(m *wire.PairMessage) bool {
		if m.Verb == noteOrderAgain {
			var again orderAgain
			return json.Unmarshal(m.Body, &again) == nil && again.Order.ID == id
		}
		message, err := role.UnmarshalMessage(m.Verb, m.Body)
		o, ok := message.(role.Order)
		return err == nil && ok && o.ID == id
	})
}

// hearAgain takes an order that the peer passes on again.
func (r *roles) hearAgain(ctx context.Context, body []byte) error {
	var again orderAgain
	if err := json.Unmarshal(body, &again); err != nil {
		return fmt.Errorf("the peer's %s: %w", noteOrderAgain, err)
	}
	if again.For != r.now().Session {
		return nil // what an earlier run had begun is taken back, and the peer knows that this is another one
	}
	go r.carryForPeer(ctx, again.Order)
	return nil
}

// takenOrder is an order of the peer that this run has taken.
type takenOrder struct {
	id    role.Nonce
	ended *wire.PairMessage // that tells what came of it; nil = it is being carried out
}

// takenMost bounds what is remembered of orders: of those that have ended the oldest is
// forgotten, whose giver doesn't wait any more.
const takenMost = 256

// take notes an order, and reports whether it is new. What came of one that has ended is
// told once more.
func (r *roles) take(id role.Nonce) bool {
	r.mu.Lock()
	i := slices.IndexFunc(r.taken, func(t takenOrder) bool { return t.id == id })
	var ended *wire.PairMessage
	if i >= 0 {
		ended = r.taken[i].ended
	} else {
		if len(r.taken) >= takenMost {
			if old := slices.IndexFunc(r.taken, func(t takenOrder) bool { return t.ended != nil }); old >= 0 {
				r.taken = slices.Delete(r.taken, old, old+1)
			}
		}
		r.taken = append(r.taken, takenOrder{id: id})
	}
	r.mu.Unlock()
	if ended != nil {
		r.post(ended)
	}
	return i < 0
}

// tookEnd notes what is told of the end of an order, and tells it.
func (r *roles) tookEnd(id role.Nonce, m *wire.PairMessage) {
	r.mu.Lock()
	if i := slices.IndexFunc(r.taken, func(t takenOrder) bool { return t.id == id }); i >= 0 {
		r.taken[i].ended = m
	}
	r.mu.Unlock()
	r.post(m)
}

// carryForPeer carries out an order that was given on the other node, and tells what came of
// it, even if the connection that it came by has ended meanwhile. An order that has come
// before is not carried out again, however it ended.
func (r *roles) carryForPeer(ctx context.Context, o role.Order) {
	if !r.take(o.ID) {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	go func() {
		select {
		case <-r.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	peer, _, _ := r.peerNow()
	r.noteDecider(o.ID, decidedBy("an operator on "+peer.Name))
	err := r.driver.Carry(ctx, o)
	if err != nil {
		err = r.toldOn(peer.Name, r.explainEnd(o, err))
	}
	body, err := json.Marshal(orderEnded{o.ID, control.AsError(err)})
	if err != nil {
		r.logger.Error("tell the peer what came of its order", "error", err)
		return
	}
	r.tookEnd(o.ID, &wire.PairMessage{Kind: wire.PairNote, Verb: noteOrderEnded, Body: body})
}

// toldOn says on another node what is wrong on this one: who reads it there would take "this
// node" for that one, and give a command where it doesn't help.
func (r *roles) toldOn(other string, err error) *control.Error {
	e := *control.AsError(err)
	here := "on " + r.name + ": "
	e.Text = here + e.Text
	if e.State != "" {
		e.State = here + e.State
	}
	var refused *role.Refusal
	switch {
	case errors.As(err, &refused) && refused.Where != "":
		e.Hint = fmt.Sprintf("on %s: replctl %s", other, refused.Command)
	case e.Hint != "":
		e.Hint = here + e.Hint
	}
	return &e
}

func (r *roles) hearEnd(body []byte) error {
	var e orderEnded
	if err := json.Unmarshal(body, &e); err != nil {
		return fmt.Errorf("the peer's %s: %w", noteOrderEnded, err)
	}
	r.mu.Lock()
	ended := r.ends[e.ID]
	r.mu.Unlock()
	if ended == nil {
		return nil
	}
	var err error
	if e.Error != nil {
		err = e.Error
	}
	select {
	case ended <- err:
	default:
	}
	return nil
}
