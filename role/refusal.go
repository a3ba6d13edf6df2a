package role

import "fmt"

// Reason is a kind of refusal.
type Reason string

// The reasons.
const (
	NotAllowed  Reason = "not allowed" // the present state does not allow it
	Unreachable Reason = "unreachable" // the peer can't be asked, and must be
	Unknown     Reason = "unknown"     // a word that there isn't, whatever the state
)

// Refusal is the error of [Next] for an event that the state does not allow. The
// state stays as it was.
type Refusal struct {
	Reason  Reason
	State   string // which state does not allow it
	Text    string // a sentence: what was wanted, what was found
	Command string // which command would do instead; "" = none
	Where   string // on which node it is to be given, and what else; "" = on this one
	Until   string // what is to be waited for before the same is ordered again; "" = waiting is no use

	proof bool // nothing is in the way of a failover but a proof that the peer doesn't serve
}

// Error returns the text.
func (r *Refusal) Error() string { return r.Text }

func (s State) refuse(command, format string, args ...any) (State, []Effect, error) {
	return s, nil, &Refusal{Reason: NotAllowed, State: s.describe(), Text: fmt.Sprintf(format, args...), Command: command}
}

func (s State) unreachable(command, format string, args ...any) (State, []Effect, error) {
	return s, nil, &Refusal{Reason: Unreachable, State: s.describe(), Text: fmt.Sprintf(format, args...), Command: command}
}

// elsewhere is refuse with a command for the other node.
func (s State) elsewhere(command, format string, args ...any) (State, []Effect, error) {
	return s, nil, &Refusal{Reason: NotAllowed, State: s.describe(), Text: fmt.Sprintf(format, args...), Command: command, Where: "on the other node"}
}

// unpaired is the refusal of every command on a node that has no peer.
func (s State) unpaired() error {
	return &Refusal{
		Reason: NotAllowed, State: "not paired", Text: "this node has never been paired: want a pair before roles change",
		Command: "invite", Where: "here, then replctl join on the other node",
	}
}

// describe names a state: its status, and what keeps it there.
func (s State) describe() string {
	name := string(s.Status())
	switch {
	case s.Stored.Role == Production && s.Phase != Settled:
		name += " (" + string(s.Phase) + ")"
	case s.Cause != NoCause:
		name += " (" + string(s.Cause) + ")"
	}
	if !s.Plan.IsZero() {
		name += ", " + string(s.Plan.Kind) + " at step " + string(s.Plan.Step)
	}
	return name
}
