package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"repld/change"
	"repld/dblog"
	"repld/dblog/condition"
	"repld/dblog/spool"
	"repld/health"
)

// SourceOptions are the settings of a Source.
type SourceOptions struct {
	Name string // of the database in the configuration, for messages
	// DSN is a libpq connection string or URL. The user needs LOGIN and REPLICATION,
	// and pg_hba.conf must let it in for the database and for replication.
	DSN string
	// Slot is the name of the physical replication slot: lower case letters, digits,
	// underscores.
	Slot string
	// SlotLimit is how many bytes of WAL the slot may keep before it is dropped, so
	// that the standby never fills production's disk. 0 means 16 GiB.
	SlotLimit int64
	// DataDir is the server's data directory, which tells how it was shut down; "" = only
	// what the server said while it did counts.
	DataDir string
	// Spool takes the stream; it should be volatile.
	Spool  *spool.Spool
	Logger *slog.Logger
}

// Source is a PostgreSQL server on the primary. It implements [dblog.Source].
type Source struct {
	opts   SourceOptions
	cut    link // for Position only, so that nothing else can delay it
	work   link
	stream *pgconn.Config

	mu       sync.Mutex
	quiet    string // snapshot when nothing but our own message had been written since a reading; "" = unknown
	retain   change.StreamPosition
	durable  change.StreamPosition // what the standby has
	replayed change.StreamPosition
	stopped  change.StreamPosition // where the log of a server ends that was shut down while it streamed
	news     chan struct{}         // closed when those three change
	stop     context.CancelCauseFunc
	trouble  condition.Set
}

var _ dblog.Source = (*Source)(nil)

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// NewSource returns a source. It connects when it is first asked something.
func NewSource(o SourceOptions) (*Source, error) {
	if !slotName.MatchString(o.Slot) {
		return nil, fmt.Errorf("slot name %q: want 1 to 63 of a-z, 0-9 and _", o.Slot)
	}
	if o.SlotLimit == 0 {
		o.SlotLimit = 16 << 30
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	config, err := parseDSN(o.DSN, "repld")
	if err != nil {
		return nil, err
	}
	s := &Source{opts: o, news: make(chan struct{})}
	s.cut = link{config: config, setup: prepareCut}
	s.work = link{config: config.Copy(), setup: prepareWork}
	s.stream = config.Copy()
	s.stream.RuntimeParams["replication"] = "true"
	return s, nil
}

// Close closes the connections.
func (s *Source) Close() error {
	s.cut.close()
	s.work.close()
	return nil
}

const (
	cutStatement = "repld_cut"
	// The snapshot is taken before the position is read: what is in neither shows in
	// the next reading.
	cutSQL = "SELECT pg_current_wal_insert_lsn(), pg_current_snapshot()"
)

func prepareCut(ctx context.Context, c *pgconn.PgConn) error {
	_, err := c.Prepare(ctx, cutStatement, cutSQL, nil)
	return err
}

func prepareWork(ctx context.Context, c *pgconn.PgConn) error {
	_, err := query(ctx, c, "SELECT set_config('synchronous_commit', 'local', false)")
	return err
}

// Position implements [dblog.Source].
func (s *Source) Position(ctx context.Context) (dblog.Reading, error) {
	generation := s.work.generation.Load()
	if generation == 0 {
		if err := s.work.with(ctx, func(*pgconn.PgConn, *server) error { return nil }); err != nil {
			return dblog.Reading{}, s.noted(err)
		}
		generation = s.work.generation.Load()
	}
	var r dblog.Reading
	err := s.cut.with(ctx, func(c *pgconn.PgConn, v *server) error {
		if err := unsuitable(v); err != nil {
			return err
		}
		result := c.ExecPrepared(ctx, cutStatement, nil, nil, nil).Read()
		if result.Err != nil {
			return result.Err
		}
		row, err := one(texts(result.Rows), 2)
		if err != nil {
			return err
		}
		lsn, err := ParseLSN(row[0])
		if err != nil {
			return err
		}
		s.mu.Lock()
		moved := s.quiet == "" || s.quiet != row[1]
		s.mu.Unlock()
		r = dblog.Reading{
			Position: change.StreamPosition{Chapter: v.timeline, Offset: uint64(recordEnd(lsn, v.segmentSize))},
			Moved:    moved, Mark: row[1], Server: v.start + " " + strconv.FormatUint(generation, 10),
		}
		return nil
	})
	return r, s.noted(err)
}

// Confirm implements [dblog.Source]. Where something was committed it writes a
// logical message, prefix "repld", with the barrier's id, whose own commit flushes
// what lies before it. It doesn't wait for synchronous standbys.
func (s *Source) Confirm(ctx context.Context, r dblog.Reading, id change.BarrierID) (dblog.Point, error) {
	p := dblog.Point{Position: r.Position}
	err := s.work.with(ctx, func(c *pgconn.PgConn, v *server) error {
		state, err := s.state(ctx, c) // first, so that a dead connection is noticed
		if err != nil {
			return err
		}
		if now := v.start + " " + strconv.FormatUint(s.work.generation.Load(), 10); now != r.Server || v.timeline != r.Position.Chapter {
			return dblog.ErrRestarted
		}
		want := LSN(r.Position.Offset)
		if r.Moved || state.flushed < want {
			rows, err := query(ctx, c, "SELECT pg_current_xact_id() FROM pg_logical_emit_message(true, 'repld', $1)", id.String())
			if err != nil {
				return err
			}
			row, err := one(rows, 1)
			if err != nil {
				return err
			}
			if state, err = s.state(ctx, c); err != nil {
				return err
			}
			s.rests(r.Mark, row[0], state.snapshot)
		}
		if state.flushed < want {
			return fmt.Errorf("the log is flushed up to %v after a commit, want %v", state.flushed, want)
		}
		p.Retain = s.checkpoint(r.Position, state)
		return nil
	})
	if err != nil && !errors.Is(err, dblog.ErrRestarted) {
		err = s.noted(err)
	}
	return p, err
}

// logState is what the server says of its log.
type logState struct {
	flushed, checkpoint, redo LSN
	snapshot                  string
}

func (s *Source) state(ctx context.Context, c *pgconn.PgConn) (logState, error) {
	rows, err := query(ctx, c, `SELECT pg_current_wal_flush_lsn(), checkpoint_lsn, redo_lsn,
		pg_current_snapshot() FROM pg_control_checkpoint()`)
	if err != nil {
		return logState{}, err
	}
	row, err := one(rows, 4)
	if err != nil {
		return logState{}, err
	}
	var st logState
	st.snapshot = row[3]
	for i, to := range []*LSN{&st.flushed, &st.checkpoint, &st.redo} {
		if *to, err = ParseLSN(row[i]); err != nil {
			return st, err
		}
	}
	return st, nil
}

// rests remembers how the server looks when, since the snapshot before a reading, no
// transaction has begun or ended but the one that wrote our message: as long as it looks
// so, nothing has moved.
func (s *Source) rests(before, own, now string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = ""
	if after, ok := snapshotAfter(before, own); ok && after == now {
		s.quiet = now
	}
}

// snapshotAfter returns a snapshot (func.sgml, "pg_snapshot": xmin:xmax:xip,…) as it is
// once a transaction has ended that was the first to begin after it; false if that one
// wasn't.
func snapshotAfter(snapshot, xid string) (string, bool) {
	parts := strings.Split(snapshot, ":")
	n, err := strconv.ParseUint(xid, 10, 64)
	if len(parts) != 3 || parts[1] != xid || err != nil {
		return "", false
	}
	next := strconv.FormatUint(n+1, 10)
	if parts[2] == "" { // none is in progress
		parts[0] = next
	}
	return parts[0] + ":" + next + ":" + parts[2], true
}

// checkpoint returns where the newest checkpoint before a position begins, as far as
// it was seen.
func (s *Source) checkpoint(at change.StreamPosition, st logState) change.StreamPosition {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.checkpoint < LSN(at.Offset) {
		s.retain = change.StreamPosition{Chapter: at.Chapter, Offset: uint64(st.redo)}
	}
	return s.retain
}

// Acknowledge implements [dblog.Source]. The server hears it at once: a commit may
// wait for it.
func (s *Source) Acknowledge(durable, replayed change.StreamPosition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.durable == durable && s.replayed == replayed {
		return
	}
	s.durable, s.replayed = durable, replayed
	s.announce()
}

// announce wakes who waits for news; with s.mu held.
func (s *Source) announce() {
	close(s.news)
	s.news = make(chan struct{})
}

// Health implements [dblog.Source].
func (s *Source) Health() []health.Condition {
	return s.trouble.List(s.opts.Name, nil)
}
