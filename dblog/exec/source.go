package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
	"repld/durable"
	"repld/health"
)

// segmentSize is that of the primary's stream, in bytes: texts are short.
const segmentSize = 256 << 10

// SourceOptions are for [NewSource].
type SourceOptions struct {
	Group, Name string // for the commands
	Commands    Commands
	Spool       *spool.Spool // what Ship fills; nil if it isn't called
	Dir         string       // for the stream; it is made
}

// Source is a service on the primary, a [dblog.Primary].
type Source struct {
	opts    SourceOptions
	service *service

	appending sync.Mutex // held while the stream is changed
	stream    *spool.Spool

	mu        sync.Mutex
	newest    string                // the last text of the stream; "" if there is none
	at        change.StreamPosition // behind it
	confirmed string                // the text that Confirm was given last; "": none in this run
	drained   change.StreamPosition // up to where Confirm was asked for last
	acked     change.StreamPosition // durable on the standby
	moved     chan struct{}         // closed when acked moves
}

var _ dblog.Primary = (*Source)(nil)

// NewSource opens the stream of a service's positions. It runs no command.
func NewSource(o SourceOptions) (*Source, error) {
	service, err := newService(o.Commands, o.Group, o.Name)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.Dir, "stream")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	stream, err := spool.Open(dir, spool.Options{SegmentSize: segmentSize})
	if errors.Is(err, spool.ErrDamaged) {
		return nil, durable.Damage(dir, "%w", err)
	}
	if err != nil {
		return nil, err
	}
	s := &Source{opts: o, service: service, stream: stream, moved: make(chan struct{})}
	if end := stream.End(); !end.IsZero() {
		s.newest, err = textBefore(stream, end)
		if s.at = end; err != nil { // a crash has left half a record
			err = s.begin(end.Chapter)
		}
	}
	if err != nil {
		stream.Close()
		return nil, err
	}
	return s, nil
}

// begin begins the stream anew with the newest text, in a chapter of a higher number; with
// appending held. What was confirmed no longer is.
func (s *Source) begin(above uint32) error {
	if err := s.stream.Reset(); err != nil {
		return err
	}
	number := max(uint32(time.Now().Unix()), above+1)
	if err := s.stream.Begin(spool.Chapter{Number: number}); err != nil {
		return err
	}
	s.mu.Lock()
	text := s.newest
	s.newest, s.at, s.confirmed, s.drained = "", change.StreamPosition{Chapter: number}, "", change.StreamPosition{}
	s.mu.Unlock()
	if text == "" {
		return nil
	}
	if err := s.append(text); err != nil {
		return err
	}
	return s.stream.Sync()
}

// append adds a text; with appending held.
func (s *Source) append(text string) error {
	s.mu.Lock()
	at := s.at
	s.mu.Unlock()
	if at.IsZero() {
		if err := s.begin(0); err != nil {
			return err
		}
		s.mu.Lock()
		at = s.at
		s.mu.Unlock()
	}
	if err := s.stream.Append(at, appendRecord(nil, text)); err != nil {
		return err
	}
	at.Offset += recordSize(text)
	s.mu.Lock()
	s.newest, s.at = text, at
	s.mu.Unlock()
	return nil
}

// Position is [dblog.Source.Position].
func (s *Source) Position(ctx context.Context) (dblog.Reading, error) {
	printed, err := s.service.run(ctx, actPosition, "")
	if err != nil {
		return dblog.Reading{}, err
	}
	text, err := parsePosition(printed)
	if err != nil {
		err = fmt.Errorf("position of database %s: %w", s.opts.Name, err)
		s.service.note(actPosition, err)
		return dblog.Reading{}, err
	}
	s.appending.Lock()
	defer s.appending.Unlock()
	s.mu.Lock()
	known := s.newest == text
	s.mu.Unlock()
	if !known {
		if err := s.append(text); err != nil {
			return dblog.Reading{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return dblog.Reading{Position: s.at, Moved: text != s.confirmed, Mark: text}, nil
}

// Confirm is [dblog.Source.Confirm].
func (s *Source) Confirm(_ context.Context, r dblog.Reading, _ change.BarrierID) (dblog.Point, error) {
	s.appending.Lock()
	defer s.appending.Unlock()
	s.mu.Lock()
	same := r.Position.Chapter == s.at.Chapter
	s.mu.Unlock()
	if !same {
		return dblog.Point{}, dblog.ErrRestarted
	}
	if err := s.stream.Sync(); err != nil {
		return dblog.Point{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.confirmed, s.drained = r.Mark, r.Position
	retain := r.Position
	retain.Offset -= recordSize(r.Mark)
	return dblog.Point{Position: r.Position, Retain: retain}, nil
}

// Health is [dblog.Source.Health].
func (s *Source) Health() []health.Condition { return s.service.health() }

// Watch is [dblog.Primary.Watch].
func (s *Source) Watch(ctx context.Context, every time.Duration) error {
	return s.service.watch(ctx, every)
}

// errNoSeed: there is nothing that repld could copy.
var errNoSeed = errors.New("a service that is held by commands isn't seeded by repld")

// Backup is [dblog.Primary.Backup]; there is none.
func (s *Source) Backup(context.Context, io.Writer) ([]byte, error) { return nil, errNoSeed }

// Close is [dblog.Primary.Close].
func (s *Source) Close() error { return s.stream.Close() }
