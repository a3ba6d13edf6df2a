package binlog

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"repld/change"
	"repld/dblog"
	"repld/dblog/condition"
	"repld/dblog/spool"
	"repld/health"
)

// SourceOptions are the settings of a Source.
type SourceOptions struct {
	Kind Kind
	Name string // of the database in the configuration, for messages
	// DSN is a connection string, USER[:PASSWORD]@unix(SOCKET)/ or @tcp(HOST:PORT)/.
	// The user of MariaDB needs REPLICATION SLAVE, BINLOG MONITOR, RELOAD, PROCESS, LOCK
	// TABLES and REPLICA MONITOR; of MySQL REPLICATION SLAVE, REPLICATION CLIENT, SELECT,
	// PROCESS and BACKUP_ADMIN.
	DSN string
	// CloneDir is a directory in which the server may write the copy of a seed; MySQL only.
	CloneDir string
	// ServerID is what we call ourselves among the server's replicas, where it must be
	// one of a kind. 0 means a number made of the name, above 2^31.
	ServerID uint32
	// Spool takes the stream; it should be volatile.
	Spool *spool.Spool
	// Dir is an existing directory for what must be known after a restart. Empty:
	// nothing is kept, for a mere Check.
	Dir    string
	Logger *slog.Logger
}

// Source is a server on the primary. It implements [dblog.Source].
type Source struct {
	opts    SourceOptions
	dialect dialect
	config  *mysql.Config
	cut     link // for Position only, so that nothing else can delay it
	work    link

	mu       sync.Mutex
	quiet    change.StreamPosition // of the newest barrier
	record   record
	durable  change.StreamPosition // what the standby has
	replayed change.StreamPosition
	marks    marks
	trouble  condition.Set
}

var _ dblog.Source = (*Source)(nil)

// NewSource returns a source. It connects when it is first asked something.
func NewSource(o SourceOptions) (*Source, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ServerID == 0 {
		h := fnv.New32a()
		h.Write([]byte(o.Name))
		o.ServerID = h.Sum32() | 1<<31
	}
	d, err := dialectOf(o.Kind)
	if err != nil {
		return nil, err
	}
	config, err := parseDSN(o.DSN)
	if err != nil {
		return nil, err
	}
	r, err := loadRecord(o.Dir)
	if err != nil {
		return nil, err
	}
	return &Source{
		opts: o, dialect: d, config: config, cut: link{config: config}, work: link{config: config}, record: r,
	}, nil
}

// Close closes the connections.
func (s *Source) Close() error {
	s.cut.close()
	s.work.close()
	return nil
}

// Position implements [dblog.Source].
func (s *Source) Position(ctx context.Context) (dblog.Reading, error) {
	generation := s.work.generation.Load()
	if generation == 0 {
		if err := s.work.with(ctx, func(c driver.Conn) error { return nil }); err != nil {
			return dblog.Reading{}, s.noted(err)
		}
		generation = s.work.generation.Load()
	}
	var r dblog.Reading
	err := s.cut.with(ctx, func(c driver.Conn) error {
		at, err := masterStatus(ctx, c, s.dialect)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		r = dblog.Reading{Position: at, Moved: at != s.quiet, Server: strconv.FormatUint(generation, 10)}
		return nil
	})
	return r, s.noted(err)
}

var errNoBinlog = setupError{"log_bin is off, want it on (set it and restart the server)"}

// masterStatus returns where the binary log ends.
func masterStatus(ctx context.Context, c driver.Conn, d dialect) (change.StreamPosition, error) {
	var at change.StreamPosition
	rows, err := d.status(ctx, c)
	if err != nil {
		return at, err
	}
	if len(rows) != 1 {
		return at, errNoBinlog
	}
	if do, ignore := rows[0]["Binlog_Do_DB"], rows[0]["Binlog_Ignore_DB"]; do != "" || ignore != "" {
		return at, setupError{fmt.Sprintf("binlog_do_db is %q and binlog_ignore_db %q, want neither: the replica would lack what they leave out", do, ignore)}
	}
	if at.Chapter, err = fileNumber(rows[0]["File"]); err != nil {
		return at, err
	}
	at.Offset, err = rows[0].number("Position")
	return at, err
}

// Confirm implements [dblog.Source]. It writes nothing: what the position was read
// behind is synced already, as long as the settings are what they should be.
func (s *Source) Confirm(ctx context.Context, r dblog.Reading, _ change.BarrierID) (dblog.Point, error) {
	p := dblog.Point{Position: r.Position, Retain: r.Position}
	err := s.work.with(ctx, func(c driver.Conn) error {
		who, err := s.dialect.identify(ctx, c) // first, so that a dead connection is noticed
		if err != nil {
			return err
		}
		if now := strconv.FormatUint(s.work.generation.Load(), 10); now != r.Server {
			return dblog.ErrRestarted
		}
		if err := s.dialect.unsuitable(who); err != nil {
			return err
		}
		s.mu.Lock()
		known := s.durable // the log can't end before what it had given by now
		s.mu.Unlock()
		now, err := masterStatus(ctx, c, s.dialect)
		if err != nil {
			return err
		}
		if known.Before(r.Position) {
			known = r.Position
		}
		if now.Before(known) {
			return fmt.Errorf("%w: the binary log ends at %s, before %s: it was begun anew (RESET MASTER or RESET BINARY LOGS)",
				dblog.ErrNeedsSeed, show(now), show(known))
		}
		return s.dialect.synced(logFiles(who.vars["log_bin_basename"]), r.Position)
	})
	if err != nil && !errors.Is(err, dblog.ErrRestarted) {
		return p, s.noted(err)
	}
	if err == nil {
		s.mu.Lock()
		s.quiet = r.Position
		s.mu.Unlock()
	}
	return p, err
}

// Acknowledge implements [dblog.Source].
func (s *Source) Acknowledge(durable, replayed change.StreamPosition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.durable, s.replayed = durable, replayed
	s.marks.forget(durable)
}

// Health implements [dblog.Source].
func (s *Source) Health() []health.Condition {
	return s.trouble.List(s.opts.Name, nil)
}

// Check looks at the server once and returns what it found wrong.
func (s *Source) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	err := s.work.with(ctx, func(c driver.Conn) error {
		who, err := s.dialect.identify(ctx, c)
		if err != nil {
			return err
		}
		if err := s.dialect.unsuitable(who); err != nil {
			return err
		}
		at, err := masterStatus(ctx, c, s.dialect)
		if err != nil {
			return err
		}
		if err := s.dialect.synced(logFiles(who.vars["log_bin_basename"]), at); err != nil {
			return err
		}
		return s.remembered(who)
	})
	return s.noted(err)
}

// Watch checks the server every so often until ctx ends.
func (s *Source) Watch(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := s.Check(ctx); err != nil && ctx.Err() == nil {
			s.opts.Logger.Warn("the database was checked", "database", s.opts.Name, "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// Prepare notes which binary log is written, so that the stream of a seed can begin
// there, and returns where that is. A seed begins with it.
func (s *Source) Prepare(ctx context.Context) (change.StreamPosition, error) {
	var at change.StreamPosition
	err := s.work.with(ctx, func(c driver.Conn) error {
		who, err := s.dialect.identify(ctx, c)
		if err != nil {
			return err
		}
		if err := s.dialect.unsuitable(who); err != nil {
			return err
		}
		file, err := currentFile(ctx, c, s.dialect)
		if err != nil {
			return err
		}
		at.Offset = fileHead
		if at.Chapter, err = fileNumber(file); err != nil {
			return err
		}
		return s.remember(record{LogBin: who.vars["log_bin_basename"], Origin: file, Base: who.base.String()})
	})
	if err != nil {
		return at, s.noted(err)
	}
	s.trouble.Forget(health.DatabaseNeedsSeed)
	return at, s.noted(nil)
}

// currentFile returns the name of the binary log file that is written.
func currentFile(ctx context.Context, c driver.Conn, d dialect) (string, error) {
	rows, err := d.status(ctx, c)
	if err != nil {
		return "", err
	}
	if len(rows) != 1 {
		return "", errNoBinlog
	}
	return rows[0]["File"], nil
}

// remembered keeps what a server says of itself.
func (s *Source) remembered(who server) error {
	s.mu.Lock()
	r := s.record
	s.mu.Unlock()
	r.LogBin, r.Base = who.vars["log_bin_basename"], who.base.String()
	return s.remember(r)
}

// remember keeps what is known of the server.
func (s *Source) remember(r record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record == r || s.opts.Dir == "" {
		return nil
	}
	if err := r.save(s.opts.Dir); err != nil {
		return err
	}
	s.record = r
	return nil
}
