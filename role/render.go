package role

import (
	"errors"
	"fmt"
	"strings"
)

// Preview returns the plan that an order would begin, without beginning it: what
// --dry-run shows. The error is the one that the order would get.
func Preview(s State, o Order) (State, error) {
	after, effects, err := Next(s, o)
	if err != nil {
		return s, err
	}
	for _, e := range effects {
		if _, ok := e.(Forward); ok { // the peer would carry it out
			after.Plan = Progress{Kind: Cutover, ID: o.ID, Target: s.target(s.Self, o.ID), Step: StepReady}
		}
	}
	return after, nil
}

// Outline is [Preview], and of a failover that is refused for want of a proof alone also the
// state with its plan: what it would be.
func Outline(s State, o Order) (State, error) {
	after, err := Preview(s, o)
	var refused *Refusal
	if errors.As(err, &refused) && refused.proof {
		after.Plan = s.failover(o, NoProof)
	}
	return after, err
}

// Render returns a plan as text: its steps in order, which node does each, what must
// hold before it, what takes it back, and from where there is no way back. Names are
// those of the node that carries it out and of the other one.
func (p Plan) Render(here, peer string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s: %s\n", p.Kind, here, p.Does)
	for i, s := range p.Steps {
		node := here
		if s.At == Peer {
			node = peer
		}
		fmt.Fprintf(&b, "%2d. %-10s %s %s\n", i+1, s.Name, node, s.Does)
		for _, need := range s.Needs {
			fmt.Fprintf(&b, "%15s needs: %s\n", "", need)
		}
		if s.Undo != "" {
			fmt.Fprintf(&b, "%15s taken back: %s %s\n", "", node, s.Undo)
		}
		if s.Final {
			fmt.Fprintf(&b, "%15s from here there is no way back\n", "")
		}
	}
	return b.String()
}
