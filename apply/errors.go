package apply

import (
	"errors"
	"fmt"

	"github.com/dustin/go-humanize/english"
)

// Sentinels for decisions.
var (
	// ErrNeedsSeed: the standby has no state to continue from, or what it has can't
	// have come from the peer's log. Only a new base helps ([Applier.Seed]).
	ErrNeedsSeed = errors.New("the standby needs a new base from its peer")
	// ErrIncomplete: data that a barrier needs is nowhere to be had; a later
	// barrier may do without it.
	ErrIncomplete = errors.New("data is missing and the peer doesn't have it any more")
	// ErrForeign: the tree isn't as it was published, in a way that publishing
	// can't set right by itself; [Applier.Repair] can.
	ErrForeign = errors.New("the standby's tree was changed by somebody else")
	// ErrScratch: the scratch file is damaged, and was set aside. The trees may be
	// between two barriers; another [Open] goes on with them as they are.
	ErrScratch = errors.New("the applier's working file is damaged")
)

// ErrSeedHalted says that a seed was stopped before it changed anything, because
// too much of what lies in the standby's directory would be set aside.
type ErrSeedHalted struct {
	Entries  uint64   // what was there
	Missing  uint64   // of these, names that the base lacks
	Differ   uint64   // of these, files whose content or kind differs
	Examples []string // some of the paths, "tree/path"
}

func (e *ErrSeedHalted) Error() string {
	return fmt.Sprintf("of %d entries in the standby's directory %d are not in the base and %d differ from it: more than a fifth would be set aside, for example %q",
		e.Entries, e.Missing, e.Differ, e.Examples)
}

// missingError names what could not be staged.
type missingError struct {
	count    uint64
	examples []string
}

func (e *missingError) Error() string {
	return fmt.Sprintf("%v: %s, for example %q", ErrIncomplete, english.Plural(int(e.count), "file", ""), e.examples)
}

func (e *missingError) Unwrap() error { return ErrIncomplete }
