package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/condition"
	"repld/dblog/spool"
	"repld/health"
)

// SourceOptions are the settings of a Source.
type SourceOptions struct {
	Name string // of the database in the configuration, for messages
	// DSN is the server: redis://[USER:PASSWORD@]HOST:PORT or unix://[USER:PASSWORD@]/PATH.
	// The user needs PING, INFO, PSYNC and REPLCONF.
	DSN string
	// Spool takes the stream; it should be volatile.
	Spool *spool.Spool
	// Dir is an existing directory for what must be known after a restart. Empty:
	// nothing is kept, for a mere Check.
	Dir    string
	Logger *slog.Logger // nil: nothing is logged
}

// Source is a Redis server on the primary. It implements [dblog.Primary].
type Source struct {
	opts SourceOptions
	at   address
	cut  link // for Position only, so that nothing else can delay it
	work link
	lag  time.Duration // see streamLag

	mu       sync.Mutex
	record   record
	unsaved  bool                  // the record
	ids      uint64                // replication ids that were seen in this run
	quiet    change.StreamPosition // of the newest barrier
	durable  change.StreamPosition // what the standby has
	stream   *incoming             // that Ship reads
	seen     change.StreamPosition // that Position read last
	prepared *prepared             // for the next Ship from the beginning
	ended    *ending               // of the last stream
	trouble  condition.Set
}

var _ dblog.Primary = (*Source)(nil)

// NewSource returns a source. It connects when it is first asked something.
func NewSource(o SourceOptions) (*Source, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	at, err := parse(o.DSN)
	if err != nil {
		return nil, err
	}
	r, err := loadRecord(o.Dir)
	if err != nil {
		return nil, err
	}
	return &Source{opts: o, lag: streamLag, at: at, cut: link{at: at}, work: link{at: at}, record: r}, nil
}

// Close closes the connections.
func (s *Source) Close() error {
	s.cut.close()
	s.work.close()
	s.prepare(nil)
	return nil
}

// Position implements [dblog.Source]. The server runs one command after the other, and
// counts in INFO what all earlier ones have put into its stream.
func (s *Source) Position(ctx context.Context) (dblog.Reading, error) {
	var is info
	asked := s.asked()
	err := s.cut.with(ctx, func(c *connection) (err error) {
		is, err = ask(c, "replication", "persistence")
		return err
	})
	switch {
	case err != nil:
	case is["loading"] == "1":
		err = errLoading
	case is.replica():
		err = is.asPrimary()
	}
	var at change.StreamPosition
	if err == nil {
		at.Offset, err = is.next("master_repl_offset")
	}
	if err != nil {
		return dblog.Reading{}, s.noted(err)
	}
	id := is["master_replid"]
	r, err := s.see(is, asked)
	if err != nil {
		return dblog.Reading{}, err
	}
	at.Chapter = r.Chapter
	s.mu.Lock()
	s.seen = at
	s.mu.Unlock()
	s.answered()
	return dblog.Reading{Position: at, Moved: s.moved(ctx, at), Server: id}, nil
}

// answered notes that the server runs.
func (s *Source) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble.Forget(health.DatabaseDown)
}

// asked counts the replication ids that were seen, for see.
func (s *Source) asked() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids
}

// errOvertaken is of an answer that says another replication id than a later one did, or may have.
var errOvertaken = errors.New("its replication id has changed while it was asked for it")

// see returns the record as it is with what the server says, which was asked when there had
// been asked ids. A server takes another id with its first replica, and several ask it.
func (s *Source) see(is info, asked uint64) (record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.record.of(is); now != s.record {
		if asked != s.ids {
			return record{}, errOvertaken
		}
		s.record, s.unsaved = now, true
		s.ids++
	}
	return s.record, nil
}

// remember keeps the record.
func (s *Source) remember(change func(*record)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.record
	change(&r)
	if r == s.record && !s.unsaved || s.opts.Dir == "" {
		return nil
	}
	if err := r.save(s.opts.Dir); err != nil {
		return err
	}
	s.record, s.unsaved = r, false
	return nil
}

const (
	// streamLag is how long Position waits for the stream to show what there is up to it, if
	// that can be no more than signs of life: a file must not change as long as it takes.
	streamLag = 5 * time.Millisecond
	// signsOfLife is how many bytes those are at most that come at once: PING and GETACK.
	signsOfLife = 64
)

// moved reports whether there was anything but signs of life since the newest barrier.
// Where that isn't known it is true.
func (s *Source) moved(ctx context.Context, at change.StreamPosition) bool {
	timer := time.NewTimer(s.lag)
	defer timer.Stop()
	for {
		s.mu.Lock()
		quiet, in := s.quiet, s.stream
		if at == quiet || quiet.Chapter != at.Chapter || in == nil || in.chapter != at.Chapter {
			s.mu.Unlock()
			return at != quiet
		}
		known, moved := in.since(quiet.Offset)
		in.align(at.Offset)
		unread := int64(at.Offset - in.at())
		if !known || moved || unread <= 0 || unread > signsOfLife {
			s.mu.Unlock()
			return !known || moved || unread > 0
		}
		more := in.more()
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return true
		case <-timer.C:
			return true
		case <-more:
		}
	}
}

// Confirm implements [dblog.Source]. Nothing is written.
func (s *Source) Confirm(ctx context.Context, r dblog.Reading, _ change.BarrierID) (dblog.Point, error) {
	p := dblog.Point{Position: r.Position, Retain: r.Position}
	err := s.work.with(ctx, func(c *connection) error {
		is, err := ask(c, "server", "cluster", "replication")
		if err != nil {
			return err
		}
		if err := is.unsuitablePrimary(); err != nil {
			return err
		}
		if is["master_replid"] != r.Server {
			return dblog.ErrRestarted
		}
		return nil
	})
	if errors.Is(err, dblog.ErrRestarted) {
		return p, err
	}
	if err == nil {
		err = s.remember(func(*record) {})
	}
	if err != nil {
		return p, s.noted(err)
	}
	s.mu.Lock()
	s.quiet = r.Position
	s.mu.Unlock()
	return p, nil
}

// Acknowledge implements [dblog.Source]. The server is told what is durable.
func (s *Source) Acknowledge(durable, _ change.StreamPosition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.durable = durable
	if s.stream != nil {
		s.stream.tell()
	}
}

// Health implements [dblog.Source].
func (s *Source) Health() []health.Condition {
	return s.trouble.List(s.opts.Name, nil)
}

// noted keeps the condition of an error for Health, and of a nil one forgets what shows
// in the same way. It returns err, with the server's name.
func (s *Source) noted(err error) error {
	if err == nil {
		s.trouble.Forget(health.DatabaseDown, health.DatabaseSetup)
	}
	return s.trouble.Note(unreachable("the server", s.at, err), codeOf)
}

// answerWithin bounds how long a server may take for what it is asked now and then.
const answerWithin = 20 * time.Second

// Check looks at the server once and returns what it found wrong.
func (s *Source) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return s.noted(s.work.with(ctx, func(c *connection) error {
		is, err := ask(c, "server", "cluster", "persistence", "replication")
		if err != nil {
			return err
		}
		if err := is.unsuitablePrimary(); err != nil {
			return err
		}
		// Who may not begin the stream is told so without it being begun.
		for _, words := range [][]string{{"PSYNC", "?", "-1"}, {"REPLCONF", "capa", "psync2"}} {
			if err := permitted(c, words...); err != nil {
				return err
			}
		}
		if is["loading"] == "1" {
			return errLoading
		}
		return nil
	}))
}

var errLoading = errors.New("it is loading its keys")

// permitted says that the connection's user may not run a command. Users who may not ask
// that are taken to.
func permitted(c *connection, words ...string) error {
	user, err := c.do("ACL", "WHOAMI")
	if err != nil {
		return notAnswer(err)
	}
	answer, err := c.do(append([]string{"ACL", "DRYRUN", user}, words...)...)
	if err != nil {
		return notAnswer(err)
	}
	if answer != "OK" {
		return setupError{fmt.Sprintf("the login lacks a permission: %s", answer)}
	}
	return nil
}

// notAnswer is an error that isn't the server's own no.
func notAnswer(err error) error {
	var answer answerError
	if errors.As(err, &answer) {
		return nil
	}
	return err
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
