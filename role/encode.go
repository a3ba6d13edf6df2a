package role

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/goccy/go-yaml"

	"repld/change"
)

// Format is the version of what [Marshal] writes.
const Format = 1

// ErrFormat is wrapped where a stored state is of a version that this one doesn't
// know. It must not be replaced: a newer daemon knows what it means.
var ErrFormat = errors.New("unknown format")

// ErrDamaged is wrapped where a stored state can't be read. It counts as lost; see
// [LostState].
var ErrDamaged = errors.New("damaged state")

type file struct {
	Format int    `yaml:"format"`
	State  Stored `yaml:"state"`
}

// Marshal returns s for the state directory, as YAML:
//
//	format: 1
//	state:
//	  self, peer, designated
//	  epoch, learned: {number, promoter, nonce}
//	  promised: number
//	  role, cause, alone, proof
//	  grant: {base: epoch, next: epoch}
//	  plan: {kind, id, target, proof, step, back, asked, failure}
//	  seen: {epoch, role, at}
//
// What is absent is zero.
func Marshal(s Stored) ([]byte, error) {
	data, err := yaml.Marshal(file{Format, s})
	if err != nil {
		return nil, fmt.Errorf("write the state of roles: %w", err)
	}
	return data, nil
}

// Unmarshal is the inverse of Marshal. It accepts only what makes sense as a whole,
// and wraps [ErrFormat] or [ErrDamaged].
func Unmarshal(data []byte) (Stored, error) {
	var version struct {
		Format int `yaml:"format"`
	}
	if err := yaml.Unmarshal(data, &version); err != nil {
		return Stored{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if version.Format == 0 {
		return Stored{}, fmt.Errorf("%w: it says no format, want %d", ErrDamaged, Format)
	}
	if version.Format != Format {
		return Stored{}, fmt.Errorf("%w %d of the state of roles, want %d", ErrFormat, version.Format, Format)
	}
	var f file
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&f); err != nil {
		return Stored{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := f.State.check(); err != nil {
		return Stored{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return f.State, nil
}

// check refuses what no sequence of events leads to.
func (s Stored) check() error {
	causes := []Cause{New, Lost, Granted, SteppedDown, Fenced, SplitBrain}
	switch {
	case s.Self == "":
		return errors.New("it doesn't say whose state it is")
	case s.Designated != Primary && s.Designated != Secondary:
		return fmt.Errorf("found the designation %q, want primary or secondary", s.Designated)
	case s.Role != Production && s.Role != Standby && s.Role != Down:
		return fmt.Errorf("found the role %q, want production, standby or down", s.Role)
	case s.Role == Down && !slices.Contains(causes, s.Cause):
		return fmt.Errorf("found the cause %q of being down", s.Cause)
	case s.Role != Down && s.Cause != NoCause:
		return fmt.Errorf("found the cause %q in role %s, want none", s.Cause, s.Role)
	case s.Role != Down && s.Epoch.Number == 0:
		return fmt.Errorf("found role %s without an epoch", s.Role)
	case s.Role == Down && s.Cause == Granted && s.Grant.IsZero():
		return errors.New("an epoch was granted, and it doesn't say which")
	case !s.Plan.IsZero() && PlanOf(s.Plan.Kind).find(s.Plan.Step) < 0:
		return fmt.Errorf("found the plan %q at step %q, which is none", s.Plan.Kind, s.Plan.Step)
	}
	return nil
}

// NewState returns the state of a node that was never paired.
func NewState(self ID, designated Designation) Stored {
	return Stored{Self: self, Designated: designated, Role: Down, Cause: New}
}

// LostState returns the state of a paired node whose stored one is gone. It is never
// one that serves or stands by: only its peer knows what has happened meanwhile.
// Floor is the highest epoch in what else the node still holds (its barriers), 0 if
// nothing: no epoch up to it is made again.
func LostState(self, peer ID, designated Designation, floor change.Epoch) Stored {
	return Stored{Self: self, Peer: peer, Designated: designated, Role: Down, Cause: Lost, Promised: floor}
}
