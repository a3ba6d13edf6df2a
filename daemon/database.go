package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/capture"
	"repld/config"
	"repld/dblog"
	"repld/dblog/spool"
	"repld/health"
	"repld/ship"
)

// Times of databases.
const (
	databaseWatch = 5 * time.Second // how often a server is looked at
	databaseRetry = time.Second     // between attempts of what should go on all the time
)

// spoolWindow bounds what a primary keeps of a database's stream that the standby
// has not got, in bytes: the server has it too.
const spoolWindow = 256 << 20

// streamEnded shows the reason for which a database's stream has ended, until it goes
// on (nil).
func (m *member) streamEnded(database string, err error) {
	subject := database + "/stream"
	c := health.Condition{Code: health.DatabaseNeedsSeed, Group: m.name, Subject: subject,
		Hint: fmt.Sprintf("on the standby: replctl database seed %s; barriers are not applied until then", database)}
	if errors.Is(err, ship.ErrNotHeld) {
		c.Code, c.Hint = health.DatabaseSetup, "give the group the same databases in the configurations of both nodes"
	}
	for _, code := range []health.Code{health.DatabaseNeedsSeed, health.DatabaseSetup} {
		if err == nil || code != c.Code {
			m.board.Resolve(code, m.name, subject)
		}
	}
	if err != nil {
		c.Text = err.Error() // a ship.SpoolError: it names the database
		m.board.Raise(c)
	}
}

// mirrorDatabase shows a database's conditions on the board until ctx ends.
func (m *member) mirrorDatabase(ctx context.Context, database string, conditions func() []health.Condition) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	shown := map[health.Code]bool{}
	for {
		now := map[health.Code]bool{}
		for _, c := range conditions() {
			c.Group, c.Subject = m.name, database
			m.board.Raise(c)
			now[c.Code] = true
		}
		for code := range shown {
			if !now[code] {
				m.board.Resolve(code, m.name, database)
			}
		}
		shown = now
		select {
		case <-ctx.Done():
			for code := range shown {
				m.board.Resolve(code, m.name, database)
			}
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// repeat calls f until ctx ends, with a pause after each end.
func repeat(ctx context.Context, f func(context.Context) error, failed func(error)) error {
	for {
		err := f(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(databaseRetry):
		}
	}
}

// source is a database on the primary.
type source struct {
	conf   config.Database
	spool  *spool.Spool
	server dblog.Primary

	resting atomic.Bool // it is being shut down on purpose
}

// windows is the folder of a group's spools while it sends: what the standby has before
// it was promoted stays in the other.
const windows = "windows"

// openSource opens a database on the primary.
func (p *sending) openSource(c config.Database) (*source, error) {
	e, err := engineOf(c)
	if err != nil {
		return nil, err
	}
	s := &source{conf: c}
	if s.spool, err = spool.Open(p.file(filepath.Join(windows, c.Name)), spool.Options{Volatile: true, Limit: spoolWindow}); err != nil {
		return nil, err
	}
	o, err := p.databaseOptions(c, s.spool)
	if err == nil {
		s.server, err = e.primary(o)
	}
	if err == nil {
		if err = p.served(c.Name); err != nil {
			_ = s.server.Close() // its connections: nothing is lost with them
		}
	}
	if err != nil {
		s.spool.Close()
		return nil, err
	}
	return s, nil
}

func (s *source) close() {
	_ = s.server.Close() // its connections: nothing is lost with them
	_ = s.spool.Close()  // volatile
}

// captured and shipped are what capture and ship need of it.
func (s *source) captured() capture.Database {
	return capture.Database{Name: s.conf.Name, Engine: s.conf.Engine, Source: s.server}
}

func (s *source) shipped(p *sending) ship.SpoolSource {
	return ship.SpoolSource{
		Name: s.conf.Name, Spool: s.spool, Ship: s.server.Ship, Acknowledge: s.server.Acknowledge,
		Backup: func(ctx context.Context, w io.Writer) error {
			if err := s.backup(ctx, w); err != nil {
				return err
			}
			p.capturer.Demand() // the gate opens at a barrier behind the backup
			return nil
		},
		Failed: func(err error) { p.streamEnded(s.conf.Name, err) },
	}
}

func (p *sending) capturedDatabases() []capture.Database {
	var list []capture.Database
	for _, s := range p.sources {
		list = append(list, s.captured())
	}
	return list
}

func (p *sending) shippedSpools() []ship.SpoolSource {
	var list []ship.SpoolSource
	for _, s := range p.sources {
		list = append(list, s.shipped(p))
	}
	return list
}

// health says what is wrong with a server that should run.
func (s *source) health() []health.Condition {
	if s.resting.Load() {
		return nil
	}
	return s.server.Health()
}

// run watches the server and its slot until ctx ends.
func (s *source) run(ctx context.Context, p *sending) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return repeat(ctx, func(ctx context.Context) error { return s.server.Watch(ctx, databaseWatch) }, func(err error) {
			p.logger.Warn("the database can't be watched", "group", p.name, "database", s.conf.Name, "error", err)
		})
	})
	g.Go(func() error { return p.mirrorDatabase(ctx, s.conf.Name, s.health) })
	return g.Wait()
}

// backup writes what a replica is made from as blocks, length u32 and data, and after
// one of the length zero the tail; see [dblog.Primary].
func (s *source) backup(ctx context.Context, w io.Writer) error {
	tail, err := s.server.Backup(ctx, blockWriter{w})
	if err != nil {
		return err
	}
	if len(tail) > dblog.MaxTail {
		return fmt.Errorf("the tail of the backup has %d bytes, want %d at most", len(tail), dblog.MaxTail)
	}
	_, err = w.Write(append(make([]byte, 4), tail...))
	return err
}

type blockWriter struct{ to io.Writer }

func (b blockWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if _, err := b.to.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p)))); err != nil {
		return 0, err
	}
	return b.to.Write(p)
}

// blockReader reads what a blockWriter wrote, up to the block of the length zero.
type blockReader struct {
	from io.Reader
	left uint32
	over bool
	size uint64 // of the blocks so far
}

func (b *blockReader) Read(p []byte) (int, error) {
	if b.over {
		return 0, io.EOF
	}
	if b.left == 0 {
		var head [4]byte
		if _, err := io.ReadFull(b.from, head[:]); err != nil {
			return 0, fmt.Errorf("the backup was cut off: %w", err)
		}
		if b.left = binary.BigEndian.Uint32(head[:]); b.left == 0 {
			b.over = true
			return 0, io.EOF
		}
	}
	n, err := b.from.Read(p[:min(uint32(len(p)), b.left)])
	b.left -= uint32(n)
	b.size += uint64(n)
	if errors.Is(err, io.EOF) && n > 0 {
		err = nil
	}
	return n, err
}
