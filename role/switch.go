package role

import "fmt"

// Mode is a way of changing roles by the words of the procedures that operators had
// before: emergency (one machine is gone), normal, recovery (it is back).
type Mode string

// The modes, in the order of their menu.
const (
	Emergency Mode = "emergency"
	Normal    Mode = "normal"
	Recovery  Mode = "recovery"
)

// Modes returns the modes with what each means for a target, for a menu.
func Modes(target Role) []struct {
	Mode Mode
	Does string
} {
	list := []struct {
		Mode Mode
		Does string
	}{
		{Emergency, "this node stops serving, and its status is down"},
		{Normal, "this node hands over to its peer and stands by"},
		{Recovery, "this node, which was mended, rejoins as the standby of its peer"},
	}
	if target == Production {
		list[0].Does = "this node takes over without its peer (failover)"
		list[1].Does = "this node takes over from its peer, which stands by (cutover)"
		list[2].Does = "this node, which serves alone, goes on with its peer as its standby"
	}
	return list
}

// Switch returns the order that the words stand for on this node. Nothing = true: what
// they want is so already. Barrier is as in [Order], for an advice.
func Switch(s State, target Role, mode Mode, barrier bool) (o Order, nothing bool, err error) {
	if target != Production && target != Standby {
		return o, false, &Refusal{Reason: Unknown, Text: fmt.Sprintf("found the target %q, want standby or production", target)}
	}
	switch mode {
	case Emergency, Normal, Recovery:
	default:
		return o, false, &Refusal{Reason: Unknown, Text: fmt.Sprintf("found the mode %q, want emergency, normal or recovery", mode)}
	}
	if s.Peer == "" {
		return o, false, s.unpaired()
	}
	if target == Standby {
		return switchToStandby(s, mode)
	}
	return switchToProduction(s, mode, barrier)
}

func switchToStandby(s State, mode Mode) (Order, bool, error) {
	switch {
	case mode == Emergency:
		return Order{Command: DoStepDown}, s.Stored.Role == Down, nil
	case s.Role() == Standby:
		return Order{}, true, nil
	case mode == Recovery:
		return Order{Command: DoRejoin}, false, nil
	}
	return Order{Command: DoCutover}, false, nil
}

func switchToProduction(s State, mode Mode, barrier bool) (Order, bool, error) {
	switch {
	case mode == Recovery && s.Role() == Production && s.Alone:
		_, _, err := s.elsewhere("switch-to standby --mode recovery", "the peer doesn't stand by yet: want it to rejoin first")
		return Order{}, false, err
	case s.Role() == Production:
		return Order{}, true, nil
	case mode == Emergency:
		return Order{Command: DoFailover}, false, nil
	case mode == Recovery:
		instead := s.takesOver(barrier)
		switch {
		case s.Cause == Fenced:
			instead = string(DoRejoin)
		case s.Role() == Standby && s.Link && s.Heard.Role == Production:
			instead = string(DoCutover)
		}
		_, _, err := s.refuse(instead, "found this node %s, want it to serve: recovery is for the node that took over", s.describe())
		return Order{}, false, err
	}
	return Order{Command: DoCutover}, false, nil
}
