package binlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
)

// idleHeartbeat is how often a replica that asked for nothing else hears of us.
const idleHeartbeat = 5 * time.Second

// start finds out where the stream of a replica begins that has the transactions of
// a state: each of them must be in the stream, up to the gate.
func (g *Gate) start(have history) (place, error) {
	g.mu.Lock()
	gate := g.gate
	list := []place{g.gate, g.replayed}
	g.mu.Unlock()
	for _, c := range g.opts.Spool.Chapters() {
		about, err := parseInfo(g.dialect, c.Info)
		if err != nil {
			return place{}, err
		}
		list = append(list, place{at: change.StreamPosition{Chapter: c.Number, Offset: c.Start}, state: about.state})
	}
	var best place
	for _, p := range list {
		if !p.at.IsZero() && best.at.Before(p.at) && p.at.Compare(gate.at) <= 0 && !p.at.Before(g.opts.Spool.Start()) && p.state.within(have) {
			best = p
		}
	}
	if best.at.IsZero() {
		return best, fmt.Errorf("%w: it is at %q, and the spool begins at %s", dblog.ErrNeedsSeed, have, show(g.opts.Spool.Start()))
	}
	return best, g.contains(best, gate.at, have)
}

// contains checks that the stream from a place up to limit leads through a state.
func (g *Gate) contains(from place, limit change.StreamPosition, have history) error {
	_, err := passage(g.dialect, g.opts.Spool, from, limit, have)
	if errors.Is(err, errNotPassed) {
		return fmt.Errorf("%w: it is at %q, and there is no such place before the gate at %s", dblog.ErrAhead, have, show(limit))
	}
	return err
}

// errNotPassed: a stream doesn't lead through a state.
var errNotPassed = errors.New("the stream doesn't lead there")

// passage returns the first place between a place and limit at which each domain has
// come to where it is in have.
func passage(d dialect, s *spool.Spool, from place, limit change.StreamPosition, have history) (place, error) {
	missing := have.lacking(from.state)
	if missing.empty() {
		return from, nil
	}
	c, err := newCursor(d, s, from.at)
	if err != nil {
		return from, err
	}
	defer c.close()
	w := walk{place: from}
	for !missing.empty() {
		e, err := c.next(limit)
		if errors.Is(err, io.EOF) {
			return from, errNotPassed
		}
		if err != nil {
			return from, err
		}
		if err := d.take(&w, c, e); err != nil {
			return from, err
		}
		c.skip(e)
		if !w.inside {
			missing = missing.lacking(w.state)
		}
	}
	return w.place, nil
}

// dump serves the stream to a replica that has said by GTID where it is: what it
// remembers of files doesn't survive its crash.
func (s *session) dump(ctx context.Context, have history, err error) error {
	g := s.gate
	var from place
	if err == nil {
		from, err = g.start(have)
	}
	if err != nil {
		return errors.Join(g.noted(g.unreadable(err)), s.sorry(codeBinlog, "HY000", "repld: "+err.Error()))
	}
	c, err := newCursor(g.dialect, g.opts.Spool, from.at)
	if err != nil {
		return err
	}
	defer c.close()
	g.begin(s)
	defer g.ended(s)
	f := feed{session: s, cursor: c, have: have, walk: walk{place: from}, every: idleHeartbeat,
		known: format{server: c.about.format.server, checksum: s.checksum}}
	if period, err := strconv.ParseUint(strings.TrimSpace(cmp.Or(s.vars["source_heartbeat_period"], s.vars["master_heartbeat_period"])), 10, 63); err == nil && period > 0 {
		f.every = time.Duration(period)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { // the replica says nothing more; it only goes
		_, err := io.Copy(io.Discard, s.in.r)
		if err == nil {
			err = errors.New("the replica went")
		}
		return err
	})
	group.Go(func() error {
		defer s.close() // the other half only ends with the connection
		return g.unreadable(f.run(ctx))
	})
	return group.Wait()
}

// unreadable notes a spool that is damaged where the replica needs it, and returns err.
func (g *Gate) unreadable(err error) error {
	if errors.Is(err, spool.ErrDamaged) {
		g.mu.Lock()
		g.spoilt = err
		g.mu.Unlock()
		return g.noted(err)
	}
	return err
}

// begin makes s the session that streams.
func (g *Gate) begin(s *session) {
	g.mu.Lock()
	old := g.session
	g.session, g.applied = s, change.StreamPosition{}
	g.announce()
	g.mu.Unlock()
	if old != nil {
		old.close()
	}
}

func (g *Gate) ended(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.session == s {
		g.session = nil
		g.announce()
	}
}

// feed sends the stream to a replica, up to the gate and not what it has.
type feed struct {
	*session
	cursor *cursor
	have   history
	walk   walk
	skip   bool // the group that is under way
	file   uint32
	told   bool   // what the file begins with, in our own words
	known  format // as the replica takes events to be, until it is told of another file
	every  time.Duration
}

func (f *feed) run(ctx context.Context) error {
	timer := time.NewTimer(f.every)
	defer timer.Stop()
	for {
		f.gate.mu.Lock()
		limit, changed := f.gate.gate.at, f.gate.changed
		f.gate.mu.Unlock()
		if limit.IsZero() {
			return errors.New("the gate was closed")
		}
		if err := f.upTo(ctx, limit); err != nil {
			return err
		}
		if err := f.out.w.Flush(); err != nil {
			return err
		}
		timer.Reset(f.every)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-timer.C:
			if err := f.heartbeat(); err != nil {
				return err
			}
		}
	}
}

// upTo sends what there is before limit.
func (f *feed) upTo(ctx context.Context, limit change.StreamPosition) error {
	for ctx.Err() == nil {
		e, err := f.cursor.next(limit)
		if f.file != f.cursor.at.Chapter && (err == nil || errors.Is(err, io.EOF)) {
			if err := f.newFile(e, err == nil); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f.event(e); err != nil {
			return err
		}
		f.cursor.skip(e)
	}
	return ctx.Err()
}

// newFile tells the replica which file follows. Within a file it must know what the
// file begins with, too.
func (f *feed) newFile(e event, known bool) error {
	about, first := f.cursor.about, f.file == 0
	f.file = f.cursor.at.Chapter
	if err := f.message(f.known.rotate(about.Name, f.cursor.at.Offset)); err != nil {
		return err
	}
	f.known = about.format
	begins := known && e.kind == eventFormat
	f.told = begins && first
	if begins && !first {
		return nil
	}
	return f.message(about.format.inner(0))
}

// message sends an event of our own.
func (f *feed) message(b []byte) error {
	o, err := f.out.begin(uint64(len(b)) + 1)
	if err != nil {
		return err
	}
	if _, err := o.Write([]byte{answerOK}); err != nil {
		return err
	}
	_, err = o.Write(b)
	return err
}

// event sends an event of the stream, unless the replica has it.
func (f *feed) event(e event) error {
	within := f.walk.inside
	if err := f.gate.dialect.take(&f.walk, f.cursor, e); err != nil {
		return err
	}
	switch e.kind {
	case eventFormat:
		if f.told {
			return nil
		}
	case eventRotate, eventStop, eventCheckpoint, eventGTIDList, eventPreviousGTIDs:
	default:
		if f.gate.dialect.groups(e.kind) {
			f.skip, within = f.have.has(f.walk.group), true
		}
		if within && f.skip {
			return nil
		}
	}
	o, err := f.out.begin(uint64(e.size) + 1)
	if err != nil {
		return err
	}
	if _, err := o.Write([]byte{answerOK}); err != nil {
		return err
	}
	return f.cursor.copyTo(o, e)
}

func (f *feed) heartbeat() error {
	about := f.cursor.about
	if err := f.message(about.format.heartbeat(about.Name, f.cursor.at.Offset)); err != nil {
		return err
	}
	return f.out.w.Flush()
}
