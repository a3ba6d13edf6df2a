package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"repld/control"
	"repld/role"
	"repld/wire"
)

// talk is what goes over one connection of the pair beside the nodes' states: notes of
// package role, and questions with their answers.
type talk struct {
	conn *wire.Conn

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan *wire.PairMessage
}

// The questions that a node answers.
const (
	askHooksReady = "hooks-ready"
	askPromoted   = "promoted"
)

// reply is the body of an answer.
type reply struct {
	Error *control.Error  `json:"error,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
}

var errNoLink = errors.New("there is no link to the peer")

// askPeer asks the peer, and decodes its answer into out, which may be nil.
func (n *node) askPeer(ctx context.Context, verb string, in, out any) error {
	n.mu.Lock()
	t := n.talk
	n.mu.Unlock()
	if t == nil {
		return errNoLink
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer := make(chan *wire.PairMessage, 1)
	t.mu.Lock()
	t.last++
	id := t.last
	t.waiting[id] = answer
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.waiting, id)
		t.mu.Unlock()
	}()
	if err := t.conn.Send(ctx, &wire.PairMessage{Kind: wire.PairQuestion, ID: id, Verb: verb, Body: body}); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %w", errNoLink, err)
	}
	select {
	case m := <-answer:
		var r reply
		if err := json.Unmarshal(m.Body, &r); err != nil {
			return fmt.Errorf("the peer's answer to %s: %w", verb, err)
		}
		if r.Error != nil {
			return r.Error
		}
		if out == nil {
			return nil
		}
		return json.Unmarshal(r.Body, out)
	case <-t.conn.Done():
		return errNoLink
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hear takes a message of the pair's connection.
func (n *node) hear(ctx context.Context, t *talk, m *wire.PairMessage) error {
	switch m.Kind {
	case wire.PairNote:
		return n.roles.hear(ctx, m)
	case wire.PairAnswer:
		t.mu.Lock()
		answer := t.waiting[m.ID]
		delete(t.waiting, m.ID)
		t.mu.Unlock()
		if answer != nil {
			answer <- m // has room for one
		}
		return nil
	}
	// An answer may take long, and nothing that comes meanwhile waits for it.
	go func() {
		body, err := n.answer(ctx, m)
		r := reply{Error: control.AsError(explain(err))}
		if err == nil {
			r.Body, err = json.Marshal(body)
			r.Error = control.AsError(err)
		}
		text, err := json.Marshal(r)
		if len(text) > wire.MaxPairBody {
			text, err = json.Marshal(reply{Error: control.Errorf(control.ExitFailed, "the answer of %s has %d bytes, more than the link takes at once", n.name, len(text))})
		}
		if err == nil {
			err = t.conn.Send(ctx, &wire.PairMessage{Kind: wire.PairAnswer, ID: m.ID, Verb: m.Verb, Body: text})
		}
		if err != nil && ctx.Err() == nil {
			n.logger.Warn("answer the peer", "question", m.Verb, "error", err)
		}
	}()
	return nil
}

// answer is this node's answer to a question of the peer.
func (n *node) answer(ctx context.Context, m *wire.PairMessage) (any, error) {
	switch m.Verb {
	case askHooksReady:
		if err := n.roles.hooksReady(ctx); err != nil {
			return nil, err
		}
		return nil, n.eachReceiving(ctx, func(ctx context.Context, s *receiving) error { return s.databasesReady(ctx) })
	case askGoodbye:
		return nil, n.roles.hearGoodbye(m.Body)
	case askReady:
		return n.readyPart(ctx)
	case noteMaintenance:
		return nil, n.hearMaintenance(m.Body)
	case askPromoted:
		return n.promotedAt(), nil
	}
	return nil, control.Errorf(control.ExitFailed, "%s doesn't know the question %q", n.name, m.Verb).WithHint("give both nodes the same version of repld")
}

// hear takes a note of the peer.
func (r *roles) hear(ctx context.Context, m *wire.PairMessage) error {
	message, err := role.UnmarshalMessage(m.Verb, m.Body)
	if err != nil {
		return err
	}
	switch message := message.(type) {
	case role.Hello:
		message.At = r.clock.Now().UTC()
		r.noteServed(message)
		r.tell(message)
	case role.AnswerStepDown:
		r.mu.Lock()
		answer := r.answers[message.Plan]
		r.mu.Unlock()
		if answer != nil {
			select {
			case answer <- message:
			default:
			}
		}
	case role.Order:
		go r.carryForPeer(ctx, message)
	case role.Event:
		r.tell(message)
	case nil:
		switch m.Verb {
		case noteMaintenance:
			return r.hearMaintenance(m.Body)
		case noteOrderAgain:
			return r.hearAgain(ctx, m.Body)
		case noteOrderEnded:
			return r.hearEnd(m.Body)
		case noteProgress:
			var p control.RoleProgress
			if err := json.Unmarshal(m.Body, &p); err != nil {
				return fmt.Errorf("the peer's %s: %w", noteProgress, err)
			}
			r.passOn(p)
		}
	}
	return nil
}

// tell passes on what the peer said. What the state refuses is nothing that the peer
// could mend, so it is only logged.
func (r *roles) tell(e role.Event) {
	var refused *role.Refusal
	if err := r.driver.Tell(e); errors.As(err, &refused) {
		r.logger.Warn("what the peer said is refused", "message", fmt.Sprintf("%T", e), "error", err)
	} else if err != nil {
		r.logger.Error("what the peer said could not be taken", "error", err)
	}
}
