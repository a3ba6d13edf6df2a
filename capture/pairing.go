package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/watch"
)

// Database is a database whose position every barrier holds.
type Database struct {
	Name   string // one of a kind in the group
	Engine string // change.EnginePostgres and so on; for the certificate
	Source DatabaseSource
}

// DatabaseSource is the part of [dblog.Source] that a cut needs. Both methods are
// called from several goroutines, but never twice at once for one database.
type DatabaseSource interface {
	// Position returns where the database's log ends. It is called within the pairing
	// window: as long as it takes, no file must change.
	Position(ctx context.Context) (dblog.Reading, error)
	// Confirm makes the log durable up to a reading of the newest barrier-to-be.
	Confirm(ctx context.Context, r dblog.Reading, id change.BarrierID) (dblog.Point, error)
}

// Bounds of a database's answers. What takes longer is an error.
const (
	positionTimeout = time.Second
	confirmTimeout  = 10 * time.Second
)

// windowTries and windowFor bound the tries at a pairing window in one round: each is
// a few round trips to the databases, in which no file must change. The time counts from
// when what has changed meanwhile doesn't become less any more.
const (
	windowTries = 32
	windowFor   = 50 * time.Millisecond
)

// Why there is no barrier when a window failed in every try.
const (
	unquiet  = "the positions of the databases could not be read between two file events"
	restless = "several databases have moved on while their positions were read"
)

// checkDatabases sorts the databases by name, as certificates list them.
func checkDatabases(list []Database) ([]Database, error) {
	list = slices.SortedFunc(slices.Values(list), func(a, b Database) int { return strings.Compare(a.Name, b.Name) })
	for i, d := range list {
		if d.Name == "" || i > 0 && list[i-1].Name == d.Name {
			return nil, fmt.Errorf("database %q: want a name that no other database of the group has", d.Name)
		}
	}
	return list, nil
}

// eachDatabase asks all databases at once, so that a window is no longer than the
// slowest answer; what says what an error means.
func (c *Capturer) eachDatabase(ctx context.Context, limit time.Duration, what string, ask func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	failed := make([]error, len(c.opts.Databases))
	one := func(i int) {
		if err := ask(ctx, i); err != nil {
			failed[i] = fmt.Errorf("%s of database %s: %w", what, c.opts.Databases[i].Name, err)
		}
	}
	var others sync.WaitGroup
	for i := 1; i < len(failed); i++ {
		others.Go(func() { one(i) })
	}
	if len(failed) > 0 {
		one(0)
	}
	others.Wait()
	return errors.Join(failed...)
}

// positions reads where the databases are, in the order of Options.Databases.
func (c *Capturer) positions(ctx context.Context) ([]dblog.Reading, error) {
	readings := make([]dblog.Reading, len(c.opts.Databases))
	err := c.eachDatabase(ctx, positionTimeout, "could not read the position", func(ctx context.Context, i int) (err error) {
		readings[i], err = c.opts.Databases[i].Source.Position(ctx)
		return err
	})
	return readings, err
}

// together reads where the databases are so that there is an instant at which all were
// there. Of several those that stand at the end where they stood at the beginning
// were there in between, when the last reading was taken; so all but one must. moving
// lists the databases, if there are more of them.
func (c *Capturer) together(ctx context.Context) (readings []dblog.Reading, moving []int, err error) {
	first, err := c.positions(ctx)
	if err != nil || len(first) < 2 {
		return first, nil, err
	}
	readings, err = c.positions(ctx)
	if err != nil || len(differing(first, readings)) == 0 {
		return readings, nil, err
	}
	last, err := c.positions(ctx)
	if err != nil {
		return nil, nil, err
	}
	if moving = differing(first, last); len(moving) < 2 {
		moving = nil
	}
	return readings, moving, nil
}

// differing lists at which indexes two readings aren't of the same position.
func differing(a, b []dblog.Reading) (at []int) {
	for i := range a {
		if a[i].Position != b[i].Position || a[i].Server != b[i].Server {
			at = append(at, i)
		}
	}
	return at
}

// due reports whether the databases want a barrier with these readings.
func (c *Capturer) due(readings []dblog.Reading) bool {
	return c.owed || anyMoved(readings)
}

// anyMoved reports whether something was committed in a database since it last
// confirmed a position.
func anyMoved(readings []dblog.Reading) bool {
	return slices.ContainsFunc(readings, func(r dblog.Reading) bool { return r.Moved })
}

// rest reports whether the databases have not moved since the newest barrier, for a
// confirmation as of at. If they have, or don't answer, a barrier is owed.
func (c *Capturer) rest(ctx context.Context, at time.Duration) (bool, error) {
	if len(c.opts.Databases) == 0 {
		return true, nil
	}
	if c.owed {
		return false, nil
	}
	readings, err := c.positions(ctx)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err == nil && !anyMoved(readings) {
		return true, nil
	}
	if err != nil {
		c.unpaired = inOneLine(err)
	}
	c.owe(at)
	return false, nil
}

// owe notes that the newest barrier doesn't hold everything up to at, though no
// file may be dirty: nothing is confirmed before the next one.
func (c *Capturer) owe(at time.Duration) {
	if len(c.opts.Databases) == 0 {
		return
	}
	c.owed = true
	if c.oldest == 0 {
		c.oldest = at
	}
}

// pairs reports whether this round is to read positions. One that can't become a
// barrier needs none.
func (r *round) pairs() bool {
	return len(r.opts.Databases) > 0 && !r.unsettled && !r.deaf && r.deferred.Len() == 0 && !(r.freezing && r.frozen == nil)
}

// paired reports whether the round knows the positions of all databases at its t*.
func (r *round) paired() bool { return len(r.readings) == len(r.opts.Databases) }

// window reads the positions and drains once more. If that brings nothing, no file
// has changed between the round's t* and the instants of the positions, and t*
// stays what it is. Else the files are later than the positions: the drain is
// the new t*, and what it brought is returned. If several databases have moved
// meanwhile nothing is returned, but the round isn't paired; once that was tried often
// enough the certificate names them.
func (r *round) window(ctx context.Context, work *watch.Set) ([]workItem, error) {
	readings, moving, err := r.together(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		r.deaf, r.unpaired = true, inOneLine(err)
		return nil, nil
	}
	at, drained := r.sync, r.drained
	fresh, err := r.drainTo(ctx, work)
	if err != nil || len(fresh) > 0 {
		return fresh, err
	}
	at.Exact = r.sync.Exact
	r.sync, r.drained = at, drained
	if len(moving) > 0 && !r.lenient {
		r.unpaired = restless
		return nil, nil
	}
	for _, i := range moving {
		r.unsure["database "+r.opts.Databases[i].Name] = struct{}{}
	}
	r.readings, r.unpaired = readings, ""
	return nil, nil
}

// confirmPositions has the databases make their logs durable up to what the round
// has read. It returns nil if one of them doesn't: no barrier may hold the readings
// then. From the first call on the databases may think that they rest, so a barrier
// is owed until one is written.
func (c *Capturer) confirmPositions(ctx context.Context, r *round, id change.BarrierID) ([]change.DatabasePosition, error) {
	if len(c.opts.Databases) == 0 {
		return nil, nil
	}
	c.owe(r.sync.At)
	held := make([]change.DatabasePosition, len(c.opts.Databases))
	err := c.eachDatabase(ctx, confirmTimeout, "could not confirm the position", func(ctx context.Context, i int) error {
		d := &c.opts.Databases[i]
		p, err := d.Source.Confirm(ctx, r.readings[i], id)
		held[i] = change.DatabasePosition{Name: d.Name, Engine: d.Engine, Position: p.Position, Retain: p.Retain}
		return err
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		c.unpaired = inOneLine(err)
		r.deaf = !onlyRestarted(err)
		return nil, nil
	}
	return held, nil
}

func inOneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// onlyRestarted reports whether all errors joined in err say that a server was
// restarted: then its position is to be read anew, and nothing else is wrong.
func onlyRestarted(err error) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return errors.Is(err, dblog.ErrRestarted)
	}
	return !slices.ContainsFunc(joined.Unwrap(), func(err error) bool { return !errors.Is(err, dblog.ErrRestarted) })
}
