package binlog

import (
	"bufio"
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/dblog"
)

// heartbeatEvery is how often the server shows that it is there; without any sign for
// silence it is taken for gone.
const (
	heartbeatEvery = 5 * time.Second
	silence        = 30 * time.Second
)

// Commands of the protocol.
const (
	commandQuit     = 0x01
	commandDatabase = 0x02
	commandQuery    = 0x03
	commandPing     = 0x0e
	commandDump     = 0x12
	commandRegister = 0x15
)

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
	c, raw, err := dial(ctx, s.config, s.dialect.streamSetup())
	if err != nil {
		return errors.Join(err, s.shipFiles(ctx, from))
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	who, err := s.dialect.identify(ctx, c)
	if err != nil {
		return err
	}
	if err := s.dialect.unsuitable(who); err != nil {
		return err
	}
	if err := s.remembered(who); err != nil {
		return err
	}
	in, err := s.incoming(ctx, c, from)
	if err != nil {
		return err
	}
	in.net, in.base = raw, who.base
	in.packets = packets{r: bufio.NewReaderSize(raw, 64<<10)}
	if err := in.ask(s.opts.ServerID); err != nil {
		return err
	}
	err = in.fill(ctx)
	var answer *mysql.MySQLError
	if errors.As(err, &answer) && answer.Number == codeBinlog {
		return fmt.Errorf("%w: %s", dblog.ErrNeedsSeed, answer.Message)
	}
	return err
}

// fill runs with a filler of the spool.
func (in *incoming) fill(ctx context.Context) error {
	in.filler = in.source.opts.Spool.NewFiller()
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { in.net.Close() })()
	g.Go(func() error { return in.filler.Run(ctx) })
	g.Go(func() error {
		ended := in.run(ctx)
		if err := in.filler.Flush(ctx); err != nil { // what came is kept
			return err
		}
		return ended
	})
	return g.Wait()
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
	b = binary.LittleEndian.AppendUint16(b, in.source.dialect.dumpFlags())
	b = binary.LittleEndian.AppendUint32(b, id)
	if err := out.write(append(b, in.name...)); err != nil {
		return err
	}
	return out.w.Flush()
}
