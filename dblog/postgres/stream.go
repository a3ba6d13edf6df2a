package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/dblog"
)

// statusEvery is how often the server hears of us without news. Its
// wal_sender_timeout is 60 s unless somebody shortened it.
const statusEvery = 5 * time.Second

// overlap is how many bytes before the standby's end are streamed once more, so
// that a stream that isn't its continuation shows.
const overlap = 8192

// epoch2000 is what timestamps in the protocol count from.
var epoch2000 = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Ship implements [dblog.Source]. It returns [dblog.ErrNeedsSeed] when the server no
// longer has what comes after from.
//
// While it runs, a server that is shut down waits until the standby has everything.
// So it must end when the link does.
func (s *Source) Ship(ctx context.Context, from change.StreamPosition) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	s.stop = cancel
	s.mu.Unlock()
	err := s.ship(ctx, from)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	if ctx.Err() == nil || errors.Is(err, dblog.ErrNeedsSeed) {
		return s.noted(err)
	}
	return err
}

func (s *Source) ship(ctx context.Context, from change.StreamPosition) error {
	conn, err := pgconn.ConnectConfig(ctx, s.stream)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	line, about, err := identifySystem(ctx, conn)
	if err != nil {
		return err
	}
	slot, err := readSlot(ctx, conn, s.opts.Slot)
	if err != nil {
		return err
	}
	if from.IsZero() { // a replica asks for whole segments
		first := segmentStart(slot, about.SegmentSize)
		from = change.StreamPosition{Chapter: line.at(first), Offset: uint64(first)}
	}
	if err := s.sameSystem(about); err != nil {
		return err
	}
	at, err := s.begin(line, about, from, slot)
	if err != nil {
		return err
	}
	for {
		var timeline uint32
		if timeline, at, err = s.follow(ctx, conn, at); err != nil {
			return err
		}
		if line.timeline < timeline {
			return fmt.Errorf("the server began timeline %d", timeline)
		}
		chapter, err := line.chapter(timeline, about)
		if err != nil {
			return err
		}
		if err := s.opts.Spool.Begin(chapter); err != nil {
			return err
		}
	}
}

// sameSystem refuses a stream from another database than the spool's.
func (s *Source) sameSystem(about info) error {
	list := s.opts.Spool.Chapters()
	if len(list) == 0 {
		return nil
	}
	have, err := parseInfo(list[len(list)-1].Info)
	if err != nil {
		return err
	}
	if have.System != about.System {
		return fmt.Errorf("%w: the server has system identifier %s, the stream came from %s", dblog.ErrNeedsSeed, about.System, have.System)
	}
	return nil
}

// begin brings the spool to where the stream goes on for a standby that ends at
// from, and returns that place: the spool's own end if it holds from, else a little
// before from.
func (s *Source) begin(line lineage, about info, from change.StreamPosition, slot LSN) (change.StreamPosition, error) {
	at := change.StreamPosition{Chapter: from.Chapter, Offset: from.Offset}
	end, _, historic, known := line.end(from.Chapter)
	if !known {
		return at, fmt.Errorf("%w: the standby has timeline %d, of which the server's timeline %d does not come",
			dblog.ErrNeedsSeed, from.Chapter, line.timeline)
	}
	if historic && at.Offset > uint64(end) {
		at.Offset = uint64(end) // the standby cuts off the rest, if it can
	}
	sp := s.opts.Spool
	have := sp.End()
	if have.Chapter == at.Chapter && !at.Before(sp.Start()) && !have.Before(at) && (!historic || have.Offset <= uint64(end)) {
		return have, nil
	}
	if err := sp.Reset(); err != nil {
		return at, err
	}
	back := LSN(at.Offset)
	if back > 0 {
		back = max((back-1)&^(overlap-1), segmentStart(back-1, about.SegmentSize))
	}
	// Only the segment in which the slot begins is surely there.
	if back >= segmentStart(slot, about.SegmentSize) && back >= line.begin(at.Chapter) {
		at.Offset = uint64(back)
	}
	chapter, err := line.chapter(at.Chapter, about)
	if err != nil {
		return at, err
	}
	return at, sp.Begin(chapter)
}

// follow streams a timeline to its end, and returns the next one. It only returns
// without an error if there is a next one.
func (s *Source) follow(ctx context.Context, conn *pgconn.PgConn, at change.StreamPosition) (uint32, change.StreamPosition, error) {
	sql := fmt.Sprintf("START_REPLICATION SLOT %s PHYSICAL %v TIMELINE %d", s.opts.Slot, LSN(at.Offset), at.Chapter)
	front := conn.Frontend()
	front.SendQuery(&pgproto3.Query{String: sql})
	if err := front.Flush(); err != nil {
		return 0, at, err
	}
	next, err := s.awaitCopy(ctx, conn)
	switch {
	case err != nil:
		return 0, at, s.startFailed(err)
	case !next.IsZero():
		return next.Chapter, next, nil
	}
	s.shutDown(change.StreamPosition{}) // it runs
	g, gctx := errgroup.WithContext(ctx)
	c := &streaming{source: s, net: conn.Conn(), timeline: at.Chapter, filler: s.opts.Spool.NewFiller(), ask: make(chan struct{}, 1)}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(gctx, func() {
		c.interrupt()
		close(interrupted)
	})
	g.Go(func() error { return c.filler.Run(gctx) })
	g.Go(func() error { return c.report(gctx) })
	g.Go(func() error { return c.receive(gctx, front) })
	err = g.Wait()
	if !stop() {
		<-interrupted
	}
	if !errors.Is(err, errCopyDone) {
		return 0, at, err
	}
	if err := c.net.SetDeadline(time.Time{}); err != nil {
		return 0, at, err
	}
	return s.nextTimeline(ctx, conn)
}

// awaitCopy waits for the beginning of the stream. Of a timeline that ended where the
// stream would begin it returns the next one.
func (s *Source) awaitCopy(ctx context.Context, conn *pgconn.PgConn) (next change.StreamPosition, err error) {
	for {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return next, err
		}
		switch m := msg.(type) {
		case *pgproto3.CopyBothResponse:
			return next, nil
		case *pgproto3.DataRow:
			if next, err = parseNext(m); err != nil {
				return next, err
			}
		case *pgproto3.ErrorResponse:
			return next, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			if next.IsZero() {
				return next, errors.New("the server began no stream")
			}
			return next, nil
		}
	}
}

// parseNext reads which timeline follows, and where it begins.
func parseNext(m *pgproto3.DataRow) (at change.StreamPosition, err error) {
	if len(m.Values) < 2 {
		return at, errors.New("the server named no next timeline")
	}
	timeline, err := strconv.ParseUint(string(m.Values[0]), 10, 32)
	if err != nil {
		return at, err
	}
	lsn, err := ParseLSN(string(m.Values[1]))
	return change.StreamPosition{Chapter: uint32(timeline), Offset: uint64(lsn)}, err
}

// startFailed explains why a stream didn't begin.
func (s *Source) startFailed(err error) error {
	var answer *pgconn.PgError
	switch {
	case errors.As(err, &answer) && answer.Code == "58P01":
		return fmt.Errorf("%w: %s", dblog.ErrNeedsSeed, answer.Message)
	case errors.As(err, &answer) && answer.Code == "42704":
		return fmt.Errorf("%w: %s", dblog.ErrNeedsSeed, answer.Message)
	case errors.As(err, &answer) && answer.Code == "XX000": // "requested starting point … is ahead of the WAL flush position"
		return fmt.Errorf("%w: the server is behind the standby or on another timeline: %s", dblog.ErrNeedsSeed, answer.Message)
	}
	return err
}

// nextTimeline reads what follows the end of a timeline.
func (s *Source) nextTimeline(ctx context.Context, conn *pgconn.PgConn) (uint32, change.StreamPosition, error) {
	var at change.StreamPosition
	front := conn.Frontend()
	front.Send(&pgproto3.CopyDone{})
	if err := front.Flush(); err != nil {
		return 0, at, err
	}
	for {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return 0, at, err
		}
		switch m := msg.(type) {
		case *pgproto3.DataRow:
			if at, err = parseNext(m); err != nil {
				return 0, at, err
			}
		case *pgproto3.ErrorResponse:
			return 0, at, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			if at.IsZero() {
				return 0, at, errors.New("the server ended the stream: it is shutting down")
			}
			return at.Chapter, at, nil
		}
	}
}
