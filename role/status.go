package role

// Status is the state of a pair in one word, as this node sees itself.
type Status string

// The statuses; scripts rely on the words.
const (
	StatusProduction          Status = "production"            // the designated primary serves, with a paired peer
	StatusStandby             Status = "standby"               // the designated secondary stands by
	StatusProductionAlone     Status = "production_alone"      // serves since a change of role without its peer
	StatusStandbyAsProduction Status = "standby_as_production" // the designated secondary serves, its peer stands by
	StatusProductionAsStandby Status = "production_as_standby" // the designated primary stands by
	StatusDown                Status = "down"                  // neither: fenced, demoted, or undecided
)

// Status returns the status. A lost link alone does not change it.
func (s State) Status() Status {
	primary := s.Designated == Primary
	switch s.Role() {
	case Production:
		switch {
		case s.Alone:
			return StatusProductionAlone
		case primary:
			return StatusProduction
		}
		return StatusStandbyAsProduction
	case Standby:
		if primary {
			return StatusProductionAsStandby
		}
		return StatusStandby
	}
	return StatusDown
}

// Why returns what keeps a node down, in words; "" for other roles.
func (s State) Why() string {
	if s.Role() != Down {
		return ""
	}
	if s.Stored.Role == Production {
		switch {
		case s.Phase == Asking:
			return "it asks its peer before it serves"
		case s.Phase == Fencing:
			return "its peer doesn't answer and is fenced again before this node serves"
		case s.Phase == Held:
			return "its peer could not be asked whether it has taken over"
		case !s.Lease && s.Policy.Coordinated:
			return "it has no lease"
		case s.Plan.Back:
			return "a " + string(s.Plan.Kind) + " is being undone"
		}
		return "a " + string(s.Plan.Kind) + " is under way"
	}
	switch s.Cause {
	case New:
		return "it has no peer yet"
	case Lost:
		return "it has lost its state, and its peer has not told yet who serves"
	case Granted:
		return "it has given epoch " + s.Grant.Next.String() + " to its peer, which has not taken it yet"
	case SteppedDown:
		return "it has stepped down"
	case Fenced:
		return "its peer has taken over with epoch " + s.Learned.String()
	case SplitBrain:
		return "both nodes were promoted to epoch " + s.Epoch.String()
	}
	return "it is down"
}
