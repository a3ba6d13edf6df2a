package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
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
			return "XX000", g.noted(g.unreadable(err))
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
