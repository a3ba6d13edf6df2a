package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
	"repld/health"
)

const (
	// ackEvery is how often a replica says where it is (REPLCONF ACK).
	ackEvery = time.Second
	// silence is how long a server may show no sign of life in its stream, where it puts
	// one every repl-ping-replica-period.
	silence = 2 * time.Minute
	// batch is how many bytes are put into the spool at once, if so many come.
	batch = 128 << 10
)

// incoming is the stream as it comes. Its fields are used with the source's mu held.
type incoming struct {
	chapter uint32

	scan    scanner
	aligned bool   // scan stands between two commands, since begun
	begun   uint64 // where scan began
	want    uint64 // an offset between two commands, where scan can begin; 0: none is known
	acked   uint64 // what the server was told last
	awake   chan struct{}
	came    chan struct{} // closed when more has come; nil: nobody waits
}

// ending is how a stream ended: where, and what the server knew to be durable on
// the standby then.
type ending struct {
	chapter     uint32
	next, acked uint64
}

func (in *incoming) at() uint64 { return in.scan.at }

// align says that an offset lies between two commands.
func (in *incoming) align(offset uint64) {
	if !in.aligned && offset >= in.scan.at {
		in.want = offset
		in.begin()
	}
}

// begin has scan begin where it is, if that is between two commands.
func (in *incoming) begin() {
	if in.want == in.scan.at && !in.aligned {
		asked := in.scan.asked
		in.scan, in.aligned, in.begun = scanFrom(in.want), true, in.want
		in.scan.asked = asked
	}
}

// since reports whether it is known what there was behind an offset, and whether that
// counts.
func (in *incoming) since(offset uint64) (known, moved bool) {
	return in.aligned && in.begun <= offset, in.scan.moved > offset
}

// more returns what is closed when more has come.
func (in *incoming) more() <-chan struct{} {
	if in.came == nil {
		in.came = make(chan struct{})
	}
	return in.came
}

// tell has the server told what is durable.
func (in *incoming) tell() {
	select {
	case in.awake <- struct{}{}:
	default:
	}
}

// take takes the next bytes.
func (in *incoming) take(p []byte) error {
	if !in.aligned {
		n := uint64(len(p))
		if in.want > in.scan.at && in.want-in.scan.at < n {
			n = in.want - in.scan.at
		}
		in.scan.at += n
		p = p[n:]
		in.begin()
	}
	err := in.scan.feed(p)
	if in.came != nil {
		close(in.came)
		in.came = nil
	}
	return err
}

// chapterInfo is what a chapter of the spool stands for.
type chapterInfo struct {
	ID string `json:"id"` // replication id
}

func (i chapterInfo) encode() ([]byte, error) { return json.Marshal(i) }

func parseChapter(c spool.Chapter) (chapterInfo, error) {
	var i chapterInfo
	if err := json.Unmarshal(c.Info, &i); err != nil {
		return i, fmt.Errorf("%w: what chapter %d stands for: %w", spool.ErrDamaged, c.Number, err)
	}
	return i, nil
}

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
	c, r, next, err := s.join(ctx, from)
	if err != nil {
		return err
	}
	defer c.Close()
	c.release()
	stop := context.AfterFunc(ctx, func() { c.Conn.Close() })
	defer stop()
	if err := s.chapter(r, next, from.IsZero()); err != nil {
		return err
	}
	in := &incoming{chapter: r.Chapter, acked: 1, awake: make(chan struct{}, 1)}
	in.scan = scanFrom(next)
	in.scan.asked = in.tell
	in.aligned, in.begun = from.IsZero(), next
	s.mu.Lock()
	if d := s.durable; d.Chapter == r.Chapter && d.Offset <= next {
		in.acked = max(in.acked, d.Offset) // not next: that may yet be lost there
	}
	s.stream, s.ended = in, nil
	s.trouble.Forget(health.DatabaseNeedsSeed)
	s.mu.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := s.read(ctx, c, in)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stream = nil
		if closed(c, err) {
			s.ended = &ending{chapter: in.chapter, next: in.at(), acked: in.acked}
		}
		return err
	})
	group.Go(func() error { return s.acknowledge(ctx, c, in) })
	return group.Wait()
}

// closed reports whether the server has closed a stream whose reading ended with err, and all
// of it was read. A server that closes with acknowledgements unread resets the connection.
// On one machine that takes nothing back that it has sent; from another one the last bytes
// may be lost with it.
func closed(c *connection, err error) bool {
	if errors.Is(err, io.EOF) {
		return true
	}
	tcp, remote := c.RemoteAddr().(*net.TCPAddr)
	return errors.Is(err, unix.ECONNRESET) && (!remote || tcp.IP.IsLoopback())
}

// join begins the stream for a standby that ends at from, and returns where.
func (s *Source) join(ctx context.Context, from change.StreamPosition) (*connection, record, uint64, error) {
	if from.IsZero() {
		s.mu.Lock()
		p := s.prepared
		s.prepared = nil
		s.mu.Unlock()
		if p != nil {
			return p.c, p.record, p.record.Origin, nil
		}
	}
	c, err := dial(ctx, s.at)
	if err != nil {
		return nil, record{}, 0, err
	}
	asked := s.asked()
	is, err := ask(c, "replication")
	var r record
	if err == nil {
		r, err = s.see(is, asked)
	}
	next, id := from.Offset, ""
	if err == nil {
		switch {
		case is.replica():
			err = is.asPrimary()
		case from.IsZero() && !r.Made:
			err = fmt.Errorf("%w: it was never made from the server as it runs now, of the replication id %s", dblog.ErrNeedsSeed, r.ID)
		case from.IsZero():
			next = r.Origin
		case from.Chapter+1 == r.Chapter && from.Offset == r.Fork:
			id = r.Before // the standby has all that the server had when it was shut down
		case from.Chapter != r.Chapter:
			err = fmt.Errorf("%w: the server's replication id is %s, which the standby's stream is not of: the server was restarted, "+
				"took another's place, or was without replicas for repl-backlog-ttl", dblog.ErrNeedsSeed, r.ID)
		}
	}
	if id == "" {
		id = r.ID
	}
	if err == nil {
		err = follow(c, id, next)
	}
	if err != nil {
		c.Close()
		return nil, r, 0, err
	}
	return c, r, next, nil
}

// chapter begins the stream in the spool. A byte before what comes first stands for the
// base.
func (s *Source) chapter(r record, next uint64, first bool) error {
	sp := s.opts.Spool
	text, err := chapterInfo{r.ID}.encode()
	if err == nil {
		err = sp.Reset()
	}
	if err == nil {
		err = sp.Begin(spool.Chapter{Number: r.Chapter, Start: r.Fork, Forks: r.Fork > 0, Info: text})
	}
	if err == nil && first {
		err = sp.Append(change.StreamPosition{Chapter: r.Chapter, Offset: next - 1}, []byte{'\n'})
	}
	return err
}

// read puts the stream into the spool until it ends.
func (s *Source) read(ctx context.Context, c *connection, in *incoming) error {
	b := make([]byte, batch)
	at := change.StreamPosition{Chapter: in.chapter, Offset: in.at()}
	for {
		if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return err
		}
		n, err := c.r.Read(b)
		if n > 0 {
			if err := s.opts.Spool.Append(at, b[:n]); err != nil {
				return err
			}
			at.Offset += uint64(n)
			s.mu.Lock()
			err := in.take(b[:n])
			s.mu.Unlock()
			if err != nil {
				return err
			}
		}
		if err != nil {
			return fmt.Errorf("its stream ended at %s: %w", show(at), err)
		}
		if err := s.opts.Spool.WaitRoom(ctx); err != nil {
			return err
		}
	}
}

// acknowledge tells the server what the standby has durably: now and then, and at once
// when there is more or it asks.
func (s *Source) acknowledge(ctx context.Context, c *connection, in *incoming) error {
	ticker := time.NewTicker(ackEvery)
	defer ticker.Stop()
	for {
		s.mu.Lock()
		if d := s.durable; d.Chapter == in.chapter && d.Offset > in.acked && d.Offset <= in.at() {
			in.acked = d.Offset
		}
		acked := in.acked
		s.mu.Unlock()
		if _, err := c.Write(request("REPLCONF", "ACK", strconv.FormatUint(acked-1, 10))); err != nil {
			// Why the stream ended, the other half knows.
			<-ctx.Done()
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-in.awake:
		}
	}
}

// prepared is the beginning of a replica's stream, at the origin of a record.
type prepared struct {
	c      *connection
	record record
}

// prepare keeps the beginning of a stream for Ship; nil: there is none.
func (s *Source) prepare(p *prepared) {
	s.mu.Lock()
	old := s.prepared
	s.prepared = p
	s.mu.Unlock()
	if old != nil {
		old.c.Close()
	}
}
