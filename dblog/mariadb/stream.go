package mariadb

import (
	"bufio"
	"context"
	"database/sql/driver"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
)

// heartbeatEvery is how often the server shows that it is there; without any sign for
// silence it is taken for gone.
const (
	heartbeatEvery = 5 * time.Second
	silence        = 30 * time.Second
)

// streamSetup says what the stream shall be: events as they stand in the files.
var streamSetup = []string{
	fmt.Sprintf("SET @master_heartbeat_period = %d", heartbeatEvery.Nanoseconds()),
	"SET @master_binlog_checksum = @@global.binlog_checksum",
	"SET @mariadb_slave_capability = 4", // MARIA_SLAVE_CAPABILITY_MINE: GTID events
}

// Commands of the protocol.
const (
	commandQuit     = 0x01
	commandDatabase = 0x02
	commandQuery    = 0x03
	commandPing     = 0x0e
	commandDump     = 0x12
	commandRegister = 0x15
)

// dumpAnnotate asks for the events that hold the statements' text too: without them the
// stream would have gaps.
const dumpAnnotate = 2

// batch is how many bytes are put into the spool at once, if so many come.
const batch = 128 << 10

// Ship implements [dblog.Source]. It returns [dblog.ErrNeedsSeed] when the server no
// longer has what comes after from.
func (s *Source) Ship(ctx context.Context, from change.StreamPosition) error {
	err := s.ship(ctx, from)
	if ctx.Err() != nil && !errors.Is(err, dblog.ErrNeedsSeed) {
		return ctx.Err()
	}
	return s.noted(err)
}

func (s *Source) ship(ctx context.Context, from change.StreamPosition) error {
	c, raw, err := dial(ctx, s.config, streamSetup)
	if err != nil {
		return errors.Join(err, s.shipFiles(ctx, from))
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	who, err := identify(ctx, c)
	if err != nil {
		return err
	}
	if err := who.unsuitable(); err != nil {
		return err
	}
	in, err := s.incoming(ctx, c, from)
	if err != nil {
		return err
	}
	in.net = raw
	in.packets = packets{r: bufio.NewReaderSize(raw, 64<<10)}
	if err := in.ask(s.opts.ServerID); err != nil {
		return err
	}
	err = in.run(ctx)
	var answer *mysql.MySQLError
	if errors.As(err, &answer) && answer.Number == codeBinlog {
		return fmt.Errorf("%w: %s", dblog.ErrNeedsSeed, answer.Message)
	}
	return err
}

// incoming is the stream as it comes.
type incoming struct {
	packets
	source *Source
	net    net.Conn
	name   string                // of the file
	at     change.StreamPosition // of the next event
	keep   uint64                // events of the first file that end before it aren't wanted
	begun  bool                  // the spool has the file's chapter
	about  info                  // of the file, as far as it is known
	first  []byte                // events of a file that come before its chapter can begin

	pending   []byte // to be put into the spool
	pendingAt change.StreamPosition
}

// incoming finds out where the stream begins for a standby that ends at from.
func (s *Source) incoming(ctx context.Context, c driver.Conn, from change.StreamPosition) (*incoming, error) {
	s.mu.Lock()
	origin := s.record.Origin
	s.mu.Unlock()
	if from.IsZero() {
		if origin == "" {
			return nil, fmt.Errorf("%w: it was never made", dblog.ErrNeedsSeed)
		}
		number, err := fileNumber(origin)
		if err != nil {
			return nil, err
		}
		from = change.StreamPosition{Chapter: number, Offset: fileHead}
	}
	files, err := query(ctx, c, "SHOW BINARY LOGS")
	if err != nil {
		return nil, err
	}
	in := &incoming{source: s, at: change.StreamPosition{Chapter: from.Chapter, Offset: fileHead}, keep: from.Offset}
	if err := s.opts.Spool.Reset(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	mark, about, ok := s.marks.before(from)
	s.mu.Unlock()
	if ok {
		in.at, in.about, in.begun = mark, about, true
		if err := in.chapter(); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		number, err := fileNumber(f["Log_name"])
		if err != nil {
			return nil, err
		}
		size, err := f.number("File_size")
		if err != nil {
			return nil, err
		}
		if number == in.at.Chapter {
			in.name = f["Log_name"]
			if size < from.Offset && number == from.Chapter {
				return nil, fmt.Errorf("%w: the standby has binary log %s up to %d, the server up to %d", dblog.ErrNeedsSeed, in.name, from.Offset, size)
			}
			return in, nil
		}
	}
	return nil, fmt.Errorf("%w: the server doesn't have binary log %d any more", dblog.ErrNeedsSeed, in.at.Chapter)
}

// ask begins the stream.
func (in *incoming) ask(id uint32) error {
	out := messages{w: bufio.NewWriter(in.net)}
	b := binary.LittleEndian.AppendUint32([]byte{commandRegister}, id)
	b = append(b, 5)
	b = append(b, "repld"...)
	b = append(b, 0, 0, 0, 0)             // user, password, port
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // rank, master
	if err := out.write(b); err != nil {
		return err
	}
	if err := out.w.Flush(); err != nil {
		return err
	}
	answer, err := in.message(64 << 10)
	if err != nil {
		return err
	}
	if len(answer) == 0 || answer[0] != answerOK {
		return parseError(answer)
	}
	if in.at.Offset > 1<<32-1 {
		return fmt.Errorf("the binary log %s is larger than 4 GiB", in.name)
	}
	out.seq = 0
	b = binary.LittleEndian.AppendUint32([]byte{commandDump}, uint32(in.at.Offset))
	b = binary.LittleEndian.AppendUint16(b, dumpAnnotate)
	b = binary.LittleEndian.AppendUint32(b, id)
	if err := out.write(append(b, in.name...)); err != nil {
		return err
	}
	return out.w.Flush()
}

// run takes messages until the stream ends.
func (in *incoming) run(ctx context.Context) error {
	for {
		if in.r.Buffered() == 0 {
			if err := in.flush(ctx); err != nil {
				return err
			}
			if err := in.net.SetReadDeadline(time.Now().Add(silence)); err != nil {
				return err
			}
		}
		if err := in.begin(); err != nil {
			return err
		}
		var first [1]byte
		if _, err := io.ReadFull(in, first[:]); err != nil {
			return err
		}
		switch first[0] {
		case answerOK:
			head := make([]byte, eventHead)
			if _, err := io.ReadFull(in, head); err != nil {
				return err
			}
			h, err := parseHeader(head)
			if err == nil {
				err = in.event(ctx, h, head, in)
			}
			if err != nil {
				return err
			}
		case answerError:
			b, err := in.rest(64 << 10)
			if err != nil {
				return err
			}
			return parseError(append(first[:], b...))
		case answerEOF:
			return errors.New("the server ended the stream: it is shutting down")
		default:
			return fmt.Errorf("the server sent a message of type %#x", first[0])
		}
	}
}

// maxSpecial bounds the events that are read for what they say.
const maxSpecial = 1 << 20

// event takes an event of which the header was read, and the rest is in r.
func (in *incoming) event(ctx context.Context, h header, head []byte, r io.Reader) error {
	switch {
	case h.kind == eventFormat, h.artificial(), h.kind == eventGTIDList && !in.begun:
		if h.size > maxSpecial {
			return fmt.Errorf("an event of type %d has %d bytes, want %d at most", h.kind, h.size, maxSpecial)
		}
		rest, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if len(rest) != int(h.size)-eventHead {
			return fmt.Errorf("an event of %d bytes says that it has %d", len(rest)+eventHead, h.size)
		}
		return in.special(ctx, h, append(head, rest...))
	}
	return in.take(ctx, h, head, r)
}

// special takes events that begin a file, and those that stand in none.
func (in *incoming) special(ctx context.Context, h header, b []byte) error {
	switch {
	case h.kind == eventRotate:
		return in.rotated(ctx, b)
	case h.kind == eventFormat:
		f, err := parseFormat(b)
		if err != nil {
			return err
		}
		if h.end != h.size+fileHead { // we begin within the file
			if in.begun && !f.same(in.about.format) {
				return fmt.Errorf("%w: binary log %s is not the one that the stream is from", dblog.ErrNeedsSeed, in.name)
			}
			return nil
		}
		in.about = info{Name: in.name, Format: b, format: f}
		return in.take(ctx, h, b, nil)
	case h.artificial():
		return nil
	case h.kind == eventGTIDList:
		body, err := in.about.format.body(b)
		if err != nil {
			return err
		}
		if in.about.state, err = parseGTIDList(body); err != nil {
			return err
		}
		in.about.List = in.about.state.String()
		in.begun = true
		if err := in.chapter(); err != nil {
			return err
		}
		first := in.first
		in.first = nil
		if err := in.add(ctx, change.StreamPosition{Chapter: in.at.Chapter, Offset: fileHead}, first); err != nil {
			return err
		}
		return in.take(ctx, h, b, nil)
	}
	return in.take(ctx, h, b, nil)
}

// chapter begins the file's chapter in the spool.
func (in *incoming) chapter() error {
	text, err := json.Marshal(in.about)
	if err != nil {
		return err
	}
	return in.source.opts.Spool.Begin(spool.Chapter{Number: in.at.Chapter, Start: fileHead, Info: text})
}

// rotated begins a file.
func (in *incoming) rotated(ctx context.Context, b []byte) error {
	body := b[eventHead:]
	if sealed(b) {
		body = b[eventHead : len(b)-4]
	}
	name, err := parseRotate(body)
	if err != nil || name == in.name {
		return err
	}
	number, err := fileNumber(name)
	if err != nil {
		return err
	}
	if number <= in.at.Chapter {
		return fmt.Errorf("%w: binary log %s follows %s", dblog.ErrNeedsSeed, name, in.name)
	}
	if in.keep > in.at.Offset {
		return fmt.Errorf("%w: the standby has binary log %s up to %d, the server up to %d", dblog.ErrNeedsSeed, in.name, in.keep, in.at.Offset)
	}
	if err := in.flush(ctx); err != nil {
		return err
	}
	in.next(name, number)
	return nil
}

// next goes to the beginning of a file.
func (in *incoming) next(name string, number uint32) {
	in.name, in.begun, in.keep, in.first = name, false, 0, nil
	in.at = change.StreamPosition{Chapter: number, Offset: fileHead}
}

// take takes an event of the file: whole, or its header and the rest from r.
func (in *incoming) take(ctx context.Context, h header, b []byte, r io.Reader) error {
	if begin := h.end - h.size; begin != uint32(in.at.Offset) {
		return fmt.Errorf("%w: an event of type %d begins at %d in %s, want %d", spool.ErrGap, h.kind, begin, in.name, in.at.Offset)
	}
	at := in.at
	in.at.Offset += uint64(h.size)
	switch {
	case !in.begun:
		if r != nil {
			rest, err := io.ReadAll(io.LimitReader(r, maxSpecial))
			if err != nil {
				return err
			}
			b = append(b, rest...)
		}
		in.first = append(in.first, b...)
		return nil
	case in.at.Offset < in.keep:
		if r != nil {
			_, err := io.Copy(io.Discard, r)
			return err
		}
		return nil
	}
	if err := in.add(ctx, at, b); err != nil {
		return err
	}
	if r == nil {
		return nil
	}
	at.Offset += uint64(len(b))
	piece := make([]byte, min(batch, int(h.size)))
	for {
		n, err := r.Read(piece)
		if n > 0 {
			if err := in.add(ctx, at, piece[:n]); err != nil {
				return err
			}
			at.Offset += uint64(n)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if at != in.at {
		return fmt.Errorf("the event before %s has %d bytes too few", show(in.at), in.at.Offset-at.Offset)
	}
	return nil
}

// add puts bytes into the spool, many at once.
func (in *incoming) add(ctx context.Context, at change.StreamPosition, b []byte) error {
	if len(b) == 0 || at.Offset+uint64(len(b)) < in.keep {
		return nil
	}
	if len(in.pending) == 0 {
		in.pendingAt = at
	}
	in.pending = append(in.pending, b...)
	if len(in.pending) >= batch {
		return in.flush(ctx)
	}
	return nil
}

func (in *incoming) flush(ctx context.Context) error {
	if len(in.pending) == 0 {
		return nil
	}
	sp := in.source.opts.Spool
	if err := sp.Append(in.pendingAt, in.pending); err != nil {
		return err
	}
	end := in.pendingAt
	end.Offset += uint64(len(in.pending))
	in.pending = in.pending[:0]
	if end == in.at {
		in.source.mu.Lock()
		in.source.marks.add(end, in.about)
		in.source.mu.Unlock()
	}
	return sp.WaitRoom(ctx)
}
