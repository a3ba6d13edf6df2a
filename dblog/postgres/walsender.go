package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
	"repld/health"
)

// maxSend is how many bytes of WAL go into one message, as in the server
// (MAX_SEND_SIZE).
const maxSend = 128 << 10

// Keepalives go out this often; while the replica has more to replay, sooner and with
// a wish for an answer, since by itself it reports what it has replayed every 10 s.
const (
	keepaliveEvery = 5 * time.Second
	askFirst       = time.Millisecond
	askAtMost      = 50 * time.Millisecond
)

// commands answers the commands of replication until the client goes.
func (s *session) commands(ctx context.Context) error {
	for {
		msg, err := s.back.Receive()
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		switch m := msg.(type) {
		case *pgproto3.Query:
			if err := s.command(ctx, strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(m.String), ";"))); err != nil {
				return err
			}
			s.back.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			if err := s.back.Flush(); err != nil {
				return err
			}
		case *pgproto3.Terminate:
			return nil
		case *pgproto3.CopyData, *pgproto3.CopyDone, *pgproto3.CopyFail: // what was under way when a stream ended
		default:
			return s.refuse("0A000", fmt.Sprintf("repld's gate doesn't answer %T", msg))
		}
	}
}

var (
	startCommand   = regexp.MustCompile(`(?i)^START_REPLICATION(?:\s+SLOT\s+(?:"[^"]*"|\S+))?(?:\s+PHYSICAL)?\s+([0-9A-F]+/[0-9A-F]+)(?:\s+TIMELINE\s+(\d+))?$`)
	historyCommand = regexp.MustCompile(`(?i)^TIMELINE_HISTORY\s+(\d+)$`)
	readSlotRegexp = regexp.MustCompile(`(?i)^READ_REPLICATION_SLOT\s+`)
	makeSlotRegexp = regexp.MustCompile(`(?i)^CREATE_REPLICATION_SLOT\s+"?([a-z0-9_]+)"?\s+(?:TEMPORARY\s+)?PHYSICAL\b`)
	showCommand    = regexp.MustCompile(`(?i)^SHOW\s+(\w+)$`)
)

// OIDs of the types in answers (pg_type.dat).
const (
	oidBytea = 17
	oidInt8  = 20
	oidInt4  = 23
	oidText  = 25
)

type column struct {
	name  string
	oid   uint32
	value any // string, []byte or nil
}

// answer sends a result of one row.
func (s *session) answer(columns ...column) {
	var fields []pgproto3.FieldDescription
	var row [][]byte
	for _, c := range columns {
		fields = append(fields, pgproto3.FieldDescription{Name: []byte(c.name), DataTypeOID: c.oid, DataTypeSize: -1, TypeModifier: -1})
		switch v := c.value.(type) {
		case string:
			row = append(row, []byte(v))
		case []byte:
			row = append(row, v)
		default:
			row = append(row, nil)
		}
	}
	s.back.Send(&pgproto3.RowDescription{Fields: fields})
	s.back.Send(&pgproto3.DataRow{Values: row})
}

func (s *session) complete(tag string) {
	s.back.Send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
}

// sorry sends an error that ends a command only.
func (s *session) sorry(code, text string) {
	s.back.Send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: text})
}

func (s *session) command(ctx context.Context, sql string) error {
	line, about, ok := s.gate.open()
	gate := s.gate.Position()
	if !ok {
		return s.refuse("57P03", "repld has closed the gate")
	}
	switch {
	case strings.EqualFold(sql, "IDENTIFY_SYSTEM"):
		s.answer(column{"systemid", oidText, about.System},
			column{"timeline", oidInt4, strconv.FormatUint(uint64(line.timeline), 10)},
			column{"xlogpos", oidText, LSN(gate.Offset).String()}, column{"dbname", oidText, nil})
		s.complete("IDENTIFY_SYSTEM")
	case showCommand.MatchString(sql):
		s.show(showCommand.FindStringSubmatch(sql)[1], about)
	case historyCommand.MatchString(sql):
		n, _ := strconv.ParseUint(historyCommand.FindStringSubmatch(sql)[1], 10, 32)
		s.history(line, about, uint32(n))
	case readSlotRegexp.MatchString(sql):
		s.answer(column{"slot_type", oidText, "physical"}, column{"restart_lsn", oidText, LSN(s.gate.opts.Spool.Start().Offset).String()},
			column{"restart_tli", oidInt8, strconv.FormatUint(uint64(s.gate.opts.Spool.Start().Chapter), 10)})
		s.complete("READ_REPLICATION_SLOT")
	case makeSlotRegexp.MatchString(sql):
		s.answer(column{"slot_name", oidText, makeSlotRegexp.FindStringSubmatch(sql)[1]},
			column{"consistent_point", oidText, LSN(gate.Offset).String()}, column{"snapshot_name", oidText, nil}, column{"output_plugin", oidText, nil})
		s.complete("CREATE_REPLICATION_SLOT")
	case startCommand.MatchString(sql):
		m := startCommand.FindStringSubmatch(sql)
		at, err := ParseLSN(m[1])
		timeline := uint64(line.timeline)
		if err == nil && m[2] != "" {
			timeline, err = strconv.ParseUint(m[2], 10, 32)
		}
		if err != nil {
			s.sorry("22023", err.Error())
			return nil
		}
		return s.stream(ctx, uint32(timeline), at)
	default:
		s.sorry("0A000", "repld's gate doesn't know this command")
	}
	return nil
}

func (s *session) show(name string, about info) {
	values := map[string]string{
		"wal_segment_size": strconv.FormatUint(about.SegmentSize>>20, 10) + "MB", "server_version": serverVersion(about.Version),
		"server_version_num": strconv.Itoa(about.Version), "data_directory_mode": "0700", "wal_block_size": strconv.Itoa(pageSize),
	}
	value, ok := values[strings.ToLower(name)]
	if !ok {
		s.sorry("42704", fmt.Sprintf("repld's gate doesn't know the setting %q", name))
		return
	}
	s.answer(column{strings.ToLower(name), oidText, value})
	s.complete("SHOW")
}

func (s *session) history(line lineage, about info, timeline uint32) {
	if _, _, _, known := line.end(timeline); !known || timeline < 2 {
		s.sorry("58P01", fmt.Sprintf("repld's gate has no history of timeline %d", timeline))
		return
	}
	content := about.History
	if timeline != line.timeline {
		content = historyBefore(content, timeline)
	}
	s.answer(column{"filename", oidText, fmt.Sprintf("%08X.history", timeline)}, column{"content", oidBytea, []byte(content)})
	s.complete("TIMELINE_HISTORY")
}

// limit returns up to where a timeline may be sent, and whether it ends there, with a
// channel that is closed when that changes.
func (g *Gate) limit(timeline uint32) (limit LSN, ended bool, changed <-chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	end, _, historic, known := g.line.end(timeline)
	switch {
	case g.line.timeline == 0 || !known:
		return 0, false, nil, fmt.Errorf("timeline %d is not in the history of %s, where the gate is", timeline, show(g.state.gate))
	case historic:
		return end, true, g.changed, nil
	}
	return LSN(g.state.gate.Offset), false, g.changed, nil
}

// startable says what keeps a stream from beginning at a position.
func (s *session) startable(timeline uint32, at LSN) (code string, err error) {
	g := s.gate
	limit, _, _, err := g.limit(timeline)
	if err != nil {
		return "XX000", g.noted(fmt.Errorf("%w: it asks for %w", dblog.ErrAhead, err))
	}
	if at > limit {
		return "XX000", g.noted(fmt.Errorf("%w: it asks for WAL from %v on, the gate lets it go to %v on timeline %d", dblog.ErrAhead, at, limit, timeline))
	}
	r := g.opts.Spool.NewReader()
	defer r.Close()
	if at < limit {
		if _, err := r.ReadAt(make([]byte, 1), timeline, uint64(at)); err != nil {
			if errors.Is(err, spool.ErrFreed) {
				return "58P01", g.noted(fmt.Errorf("%w: it asks for WAL from %v on, the spool begins at %s", dblog.ErrNeedsSeed, at, show(g.opts.Spool.Start())))
			}
			return "XX000", g.noted(err)
		}
	}
	return "", nil
}

// stream serves START_REPLICATION.
func (s *session) stream(ctx context.Context, timeline uint32, at LSN) error {
	if code, err := s.startable(timeline, at); err != nil {
		s.sorry(code, err.Error())
		return nil
	}
	g := s.gate
	g.mu.Lock()
	old := g.session
	g.session, g.applied, s.flushed = s, change.StreamPosition{}, change.StreamPosition{}
	g.announce()
	g.mu.Unlock()
	if old != nil && old != s {
		old.close()
	}
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.session == s {
			g.state.flushed = later(g.state.flushed, s.flushed)
			g.session = nil
			g.announce()
		}
	}()
	s.back.Send(&pgproto3.CopyBothResponse{})
	if err := s.back.Flush(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	w := walWriter{s: s, timeline: timeline, sent: at, reader: g.opts.Spool.NewReader()}
	defer w.reader.Close()
	group.Go(func() error { return s.listen(timeline) })
	group.Go(func() error {
		err := w.run(ctx)
		if errors.Is(context.Cause(ctx), errClientDone) {
			return nil
		}
		if err != nil {
			s.close() // the other half only ends with the connection
		}
		return err
	})
	if err := group.Wait(); !errors.Is(err, errClientDone) {
		return err
	}
	if !w.ended {
		s.back.Send(&pgproto3.CopyDone{})
	}
	return s.streamed(timeline)
}

func later(a, b change.StreamPosition) change.StreamPosition {
	if a.Before(b) {
		return b
	}
	return a
}

// streamed ends a stream as the server does (walsender.c, StartReplication): with the
// next timeline if this one has ended, and with the second CommandComplete that
// libpqrcv_endstreaming expects.
func (s *session) streamed(timeline uint32) error {
	line, _, _ := s.gate.open()
	if end, next, historic, known := line.end(timeline); known && historic {
		s.answer(column{"next_tli", oidInt8, strconv.FormatUint(uint64(next), 10)}, column{"next_tli_startpos", oidText, end.String()})
	}
	s.complete("START_STREAMING")
	s.complete("START_REPLICATION")
	return nil
}

var errClientDone = errors.New("the client ended the stream")

// listen takes what the replica says while it streams.
func (s *session) listen(timeline uint32) error {
	for {
		msg, err := s.back.Receive()
		if err != nil {
			return err
		}
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			if len(m.Data) >= 34 && m.Data[0] == 'r' {
				if err := s.status(timeline, m.Data); err != nil {
					return err
				}
			}
		case *pgproto3.CopyDone:
			return errClientDone
		case *pgproto3.Terminate:
			return errors.New("the replica said good-bye")
		}
	}
}

// status takes a standby status update. A replica that has what was never released is
// cut off.
func (s *session) status(timeline uint32, b []byte) error {
	written, flushed, applied := LSN(binary.BigEndian.Uint64(b[1:])), LSN(binary.BigEndian.Uint64(b[9:])), LSN(binary.BigEndian.Uint64(b[17:]))
	g := s.gate
	limit, _, _, err := g.limit(timeline)
	if err != nil {
		return err
	}
	if most := max(written, flushed, applied); most > limit {
		return g.noted(fmt.Errorf("%w: it has WAL up to %v, the gate lets it go to %v on timeline %d", dblog.ErrAhead, most, limit, timeline))
	}
	return s.noteStatus(timeline, limit, flushed, applied)
}

func (s *session) noteStatus(timeline uint32, limit, flushed, applied LSN) error {
	g := s.gate
	g.mu.Lock()
	if g.session != s {
		g.mu.Unlock()
		return errors.New("the replica has another connection")
	}
	size := g.about.SegmentSize
	frees := segmentStart(flushed, size) != segmentStart(LSN(s.flushed.Offset), size)
	s.flushed = change.StreamPosition{Chapter: timeline, Offset: uint64(flushed)}
	g.applied = change.StreamPosition{Chapter: timeline, Offset: uint64(applied)}
	if limit == LSN(g.state.gate.Offset) {
		delete(g.trouble, health.DatabaseAhead)
		delete(g.trouble, health.DatabaseNeedsSeed)
	}
	st, about := g.state, g.about
	st.flushed = s.flushed
	g.announce()
	g.mu.Unlock()
	if frees {
		return g.free(st, about)
	}
	return nil
}

// walWriter sends one timeline.
type walWriter struct {
	s        *session
	timeline uint32
	sent     LSN
	reader   *spool.Reader
	buf      []byte
	asked    time.Duration // how long the last question waited
	ended    bool          // it told the client so
}

// run sends what may be sent until the timeline ends. Then it says so to the client,
// whose own CopyDone ends the stream.
func (w *walWriter) run(ctx context.Context) error {
	timer := time.NewTimer(keepaliveEvery)
	defer timer.Stop()
	for {
		limit, ended, changed, err := w.s.gate.limit(w.timeline)
		if err != nil {
			return err
		}
		if w.sent < limit {
			if err := w.send(limit); err != nil {
				return err
			}
			w.asked = 0
			continue
		}
		if ended {
			w.ended = true
			w.s.back.Send(&pgproto3.CopyDone{})
			return w.s.back.Flush()
		}
		timer.Reset(w.patience(limit))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-timer.C:
			if err := w.keepalive(limit); err != nil {
				return err
			}
		}
	}
}

// patience returns when the next keepalive is due.
func (w *walWriter) patience(limit LSN) time.Duration {
	g := w.s.gate
	g.mu.Lock()
	applied := LSN(g.applied.Offset)
	g.mu.Unlock()
	if applied >= limit {
		return keepaliveEvery
	}
	w.asked = min(max(2*w.asked, askFirst), askAtMost)
	return w.asked
}

// send sends the next piece, never more than the limit. A piece ends with a record or
// with a page: walreceivers rely on it (walsender.c, XLogSendPhysical), and what reads
// the rest of a record from a page that it has half of takes it for damaged.
func (w *walWriter) send(limit LSN) error {
	n := uint64(limit - w.sent)
	if n > maxSend {
		n = uint64((w.sent+maxSend)&^(pageSize-1) - w.sent)
	}
	if w.buf == nil {
		w.buf = make([]byte, 25+maxSend)
	}
	k, err := w.reader.ReadAt(w.buf[25:25+n], w.timeline, uint64(w.sent))
	if err != nil {
		return err
	}
	if uint64(k) < n {
		return fmt.Errorf("the spool has %d bytes from %v on, want %d", k, w.sent, n)
	}
	w.buf[0] = 'w'
	binary.BigEndian.PutUint64(w.buf[1:], uint64(w.sent))
	binary.BigEndian.PutUint64(w.buf[9:], uint64(limit))
	binary.BigEndian.PutUint64(w.buf[17:], uint64(time.Since(epoch2000).Microseconds()))
	w.s.back.Send(&pgproto3.CopyData{Data: w.buf[:25+k]})
	if err := w.s.back.Flush(); err != nil {
		return err
	}
	w.sent += LSN(k)
	return nil
}

// keepalive asks for an answer; it tells of no WAL behind the limit.
func (w *walWriter) keepalive(limit LSN) error {
	b := []byte{'k'}
	b = binary.BigEndian.AppendUint64(b, uint64(limit))
	b = binary.BigEndian.AppendUint64(b, uint64(time.Since(epoch2000).Microseconds()))
	w.s.back.Send(&pgproto3.CopyData{Data: append(b, 1)})
	return w.s.back.Flush()
}
