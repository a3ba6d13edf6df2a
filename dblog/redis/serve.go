package redis

import (
	"bufio"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/dblog/spool"
	"repld/health"
)

// replicaSilence is how long a replica may say nothing, which says every second where it is
// or, while it loads keys, that it is there.
const replicaSilence = 2 * time.Minute

// session is a connection of the replica's.
type session struct {
	net.Conn
	gate   *Gate
	r      *bufio.Reader
	authed bool
	full   bool // it got the base
}

// serve answers a replica until either goes or ctx ends.
func (g *Gate) serve(ctx context.Context, conn net.Conn) {
	s := &session{Conn: conn, gate: g, r: bufio.NewReader(conn)}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err := s.run(ctx)
	if ctx.Err() == nil {
		g.opts.Logger.Info("the replica's connection ended", "database", g.opts.Name, "err", err)
	}
}

// Bounds of what a replica sends.
const (
	maxWords = 64
	maxSent  = 4 << 10
)

// command reads what the replica sends.
func (s *session) command() ([]string, error) {
	n, err := s.count('*', maxWords)
	if err != nil {
		return nil, err
	}
	words := make([]string, n)
	for i := range words {
		size, err := s.count('$', maxSent)
		if err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(s.r, b); err != nil {
			return nil, err
		}
		words[i] = string(b[:size])
	}
	return words, nil
}

// count reads a line that is a number behind a character; empty lines are signs of life.
func (s *session) count(kind byte, most int) (int, error) {
	for {
		if err := s.SetReadDeadline(time.Now().Add(replicaSilence)); err != nil {
			return 0, err
		}
		line, err := s.r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" && kind == '*' {
			continue
		}
		n, err := strconv.Atoi(text[min(1, len(text)):])
		if text == "" || text[0] != kind || err != nil || n < 0 || kind == '*' && n == 0 || n > most {
			return 0, fmt.Errorf("it sent %q, want %c and a number of %d at most", text[:min(len(text), 40)], kind, most)
		}
		return n, nil
	}
}

func (s *session) say(text string) error {
	_, err := io.WriteString(s.Conn, text+"\r\n")
	return err
}

// run answers what comes before the stream.
func (s *session) run(ctx context.Context) error {
	for {
		words, err := s.command()
		if err != nil {
			return err
		}
		name := strings.ToUpper(words[0])
		switch {
		case name == "AUTH" && len(words) > 1:
			s.gate.mu.Lock()
			password := s.gate.access.Password
			s.gate.mu.Unlock()
			s.authed = subtle.ConstantTimeCompare([]byte(words[len(words)-1]), []byte(password)) == 1
			if !s.authed {
				err = s.say("-WRONGPASS repld doesn't know this password")
			} else {
				err = s.say("+OK")
			}
		case !s.authed:
			err = s.say("-NOAUTH Authentication required.")
		case name == "PING":
			err = s.say("+PONG")
		case name == "REPLCONF":
			err = s.say("+OK")
		case name == "PSYNC" && len(words) == 3:
			return s.stream(ctx, words[1], words[2])
		default:
			err = s.say("-ERR repld's gate doesn't know this command")
		}
		if err != nil {
			return err
		}
	}
}

// stream serves PSYNC.
func (s *session) stream(ctx context.Context, id, next string) error {
	g := s.gate
	g.mu.Lock()
	st, lost := g.state, g.lost
	g.mu.Unlock()
	if !st.Open || lost != "" || st.Promoted {
		return s.say("-NOMASTERLINK repld has not opened the gate")
	}
	from, ok := s.resumes(st, id, next)
	if ok {
		g.begin(s)
		defer g.end(s)
		if err := s.say("+CONTINUE " + st.ID); err != nil {
			return err
		}
	} else {
		g.opts.Logger.Info("the replica gets all keys", "database", g.opts.Name, "asked_for", id+" "+next, "base", st.Base)
		s.full, from = true, st.Base
		g.begin(s)
		defer g.end(s)
		if err := s.base(st); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer s.Close() // the other half only ends with the connection
		return s.listen()
	})
	group.Go(func() error {
		defer s.Close()
		return s.feed(ctx, st.Chapter, from)
	})
	return group.Wait()
}

// resumes returns from where on a replica can be fed that asks for the stream of an id
// from a byte on, false if it must get the base.
func (s *session) resumes(st gateState, id, next string) (uint64, bool) {
	n, err := strconv.ParseInt(next, 10, 64)
	if err != nil || n < 1 || st.Full || st.Point {
		return 0, false
	}
	from := uint64(n)
	if id != st.ID && (id != st.Before || from > st.Fork) {
		return 0, false
	}
	return from, from >= st.Floor && from <= st.Gate && from >= s.gate.opts.Spool.Start().Offset
}

// base sends the RDB file.
func (s *session) base(st gateState) error {
	f, err := os.Open(s.gate.basePath(st))
	if err != nil {
		return err
	}
	defer f.Close()
	about, err := f.Stat()
	if err != nil {
		return err
	}
	if err := s.say(fmt.Sprintf("+FULLRESYNC %s %d", st.ID, st.Base-1)); err != nil {
		return err
	}
	if err := s.say(fmt.Sprintf("$%d", about.Size())); err != nil {
		return err
	}
	_, err = io.Copy(s.Conn, f)
	return err
}

// feed sends the stream up to the gate.
func (s *session) feed(ctx context.Context, chapter uint32, from uint64) error {
	g := s.gate
	r := g.opts.Spool.NewReader()
	defer r.Close()
	b := make([]byte, 128<<10)
	for {
		g.mu.Lock()
		st, current, changed := g.state, g.session == s, g.changed
		g.mu.Unlock()
		if !current || st.Chapter != chapter || !st.Open {
			return errors.New("the gate was closed")
		}
		for from < st.Gate {
			n, err := r.ReadAt(b[:min(uint64(len(b)), st.Gate-from)], chapter, from)
			if errors.Is(err, spool.ErrDamaged) {
				g.spoils(err)
			}
			if err != nil {
				return err
			}
			if _, err := s.Write(b[:n]); err != nil {
				return err
			}
			from += uint64(n)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// spoils notes that the stream can't be read any more that a replica needs.
func (g *Gate) spoils(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lost = err.Error()
	g.trouble.Put(health.DatabaseNeedsSeed, g.lost)
	g.announce()
}

// listen takes what the replica says of where it is.
func (s *session) listen() error {
	for {
		words, err := s.command()
		if err != nil {
			return err
		}
		if len(words) < 3 || !strings.EqualFold(words[0], "REPLCONF") || !strings.EqualFold(words[1], "ACK") {
			continue
		}
		at, err := strconv.ParseUint(words[2], 10, 63)
		if err != nil {
			return fmt.Errorf("it acknowledges %q, want an offset", words[2])
		}
		s.gate.came(s, at+1)
	}
}

// begin makes s the session that streams.
func (g *Gate) begin(s *session) {
	g.mu.Lock()
	old := g.session
	g.session, g.applied, g.known = s, 0, false
	g.announce()
	g.mu.Unlock()
	if old != nil {
		old.Close()
	}
}

func (g *Gate) end(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.session == s {
		g.session, g.known = nil, false
		g.announce()
	}
}

// came notes that the replica of a session wants a byte next.
func (g *Gate) came(s *session, at uint64) {
	g.mu.Lock()
	st := g.state
	if g.session == s && at <= st.Gate && at >= st.Floor && (!g.known || g.applied != at) {
		g.applied, g.known = at, true
		g.announce()
	}
	has := st.Full && s.full && g.session == s && at >= st.Base
	g.mu.Unlock()
	if has {
		_ = g.update(func(now *gateState) { // it gets the base once more otherwise
			if now.Chapter == st.Chapter && now.Floor == st.Floor {
				now.Full = false
			}
		})
	}
}
