package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
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

// identifySystem asks a replication connection for the server's timelines.
func identifySystem(ctx context.Context, c *pgconn.PgConn) (lineage, info, error) {
	var line lineage
	var about info
	row, err := command(ctx, c, "IDENTIFY_SYSTEM", 4)
	if err != nil {
		return line, about, err
	}
	timeline, err := strconv.ParseUint(row[1], 10, 32)
	if err != nil {
		return line, about, fmt.Errorf("the server's timeline: %w", err)
	}
	line.timeline = uint32(timeline)
	about.System = row[0]
	if row, err = command(ctx, c, "SHOW wal_segment_size", 1); err != nil {
		return line, about, err
	}
	if about.SegmentSize, err = parseSize(row[0]); err != nil {
		return line, about, err
	}
	if row, err = command(ctx, c, "SHOW server_version_num", 1); err != nil {
		return line, about, err
	}
	if about.Version, err = strconv.Atoi(row[0]); err != nil {
		return line, about, err
	}
	if timeline > 1 {
		if row, err = command(ctx, c, fmt.Sprintf("TIMELINE_HISTORY %d", timeline), 2); err != nil {
			return line, about, err
		}
		about.History = row[1]
		if line.forks, err = parseHistory(row[1]); err != nil {
			return line, about, err
		}
	}
	return line, about, nil
}

// parseSize reads a size as SHOW prints it.
func parseSize(s string) (uint64, error) {
	for unit, factor := range map[string]uint64{"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30} {
		if n, ok := cutSuffix(s, unit); ok {
			return n * factor, nil
		}
	}
	return 0, fmt.Errorf("size %q: want a number with kB, MB or GB", s)
}

func cutSuffix(s, unit string) (uint64, bool) {
	if len(s) <= len(unit) || s[len(s)-len(unit):] != unit {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:len(s)-len(unit)], 10, 32)
	return n, err == nil
}

// command runs a replication command that answers with one row.
func command(ctx context.Context, c *pgconn.PgConn, sql string, columns int) ([]string, error) {
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("the server gave no answer to %s", sql)
	}
	return one(texts(results[0].Rows), columns)
}

// readSlot returns from where on the slot keeps WAL.
func readSlot(ctx context.Context, c *pgconn.PgConn, name string) (LSN, error) {
	row, err := command(ctx, c, fmt.Sprintf("READ_REPLICATION_SLOT %s", name), 3)
	if err != nil {
		return 0, err
	}
	switch {
	case row[0] == "":
		return 0, fmt.Errorf("%w: the server has no replication slot %q any more", dblog.ErrNeedsSeed, name)
	case row[0] != "physical":
		return 0, setupError{fmt.Sprintf("replication slot %q is %s, want a physical one", name, row[0])}
	case row[1] == "":
		return 0, fmt.Errorf("%w: replication slot %q keeps nothing: it was never used, or invalidated", dblog.ErrNeedsSeed, name)
	}
	return ParseLSN(row[1])
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
	g, gctx := errgroup.WithContext(ctx)
	c := &streaming{source: s, net: conn.Conn(), timeline: at.Chapter, ask: make(chan struct{}, 1)}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(gctx, func() {
		c.interrupt()
		close(interrupted)
	})
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

// streaming is a stream in progress.
type streaming struct {
	source   *Source
	net      net.Conn
	timeline uint32
	ask      chan struct{} // the server wants to hear from us
}

// interrupt makes whoever reads or writes return.
func (c *streaming) interrupt() {
	if err := c.net.SetDeadline(time.Unix(1, 0)); err != nil {
		c.net.Close()
	}
}

var errCopyDone = errors.New("the server ended the timeline")

// receive puts what comes into the spool. A full spool makes it wait, and the server
// with it; what isn't sent stays in the slot.
func (c *streaming) receive(ctx context.Context, front *pgproto3.Frontend) error {
	sp := c.source.opts.Spool
	for {
		msg, err := front.Receive()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			if err := c.data(m.Data); err != nil {
				return err
			}
			if err := sp.WaitRoom(ctx); err != nil {
				return err
			}
		case *pgproto3.CopyDone, *pgproto3.CommandComplete:
			return errCopyDone
		case *pgproto3.ErrorResponse:
			return pgconn.ErrorResponseToPgError(m)
		}
	}
}

func (c *streaming) data(b []byte) error {
	switch {
	case len(b) >= 25 && b[0] == 'w':
		at := change.StreamPosition{Chapter: c.timeline, Offset: binary.BigEndian.Uint64(b[1:])}
		return c.source.opts.Spool.Append(at, b[25:])
	case len(b) >= 18 && b[0] == 'k':
		if b[17] == 1 {
			select {
			case c.ask <- struct{}{}:
			default:
			}
		}
		return nil
	}
	return fmt.Errorf("the server sent a message of %d bytes that is no part of a stream", len(b))
}

// report tells the server what the standby has.
func (c *streaming) report(ctx context.Context) error {
	ticker := time.NewTicker(statusEvery)
	defer ticker.Stop()
	s := c.source
	for {
		s.mu.Lock()
		durable, replayed, news := s.durable, s.replayed, s.news
		s.mu.Unlock()
		if err := c.status(LSN(durable.Offset), LSN(replayed.Offset)); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
		case <-ticker.C:
		case <-c.ask:
		}
	}
}

// status writes a standby status update.
func (c *streaming) status(durable, replayed LSN) error {
	b := []byte{'r'}
	b = binary.BigEndian.AppendUint64(b, uint64(durable))
	b = binary.BigEndian.AppendUint64(b, uint64(durable))
	b = binary.BigEndian.AppendUint64(b, uint64(replayed))
	b = binary.BigEndian.AppendUint64(b, uint64(time.Since(epoch2000).Microseconds()))
	b = append(b, 0)
	msg, err := (&pgproto3.CopyData{Data: b}).Encode(nil)
	if err != nil {
		return err
	}
	_, err = c.net.Write(msg)
	return err
}
