package exec

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
)

// stage is a service on both sides: the primary's is the file "at", the replica's calls
// are lines of the file "calls". A command ends with what the file fail-ACTION holds.
type stage struct {
	t      *testing.T
	dir    string
	stream *spool.Spool // on the standby
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(s.dir, "gate"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.stream = s.spool("spool", false)
	return s
}

func (s *stage) spool(name string, volatile bool) *spool.Spool {
	s.t.Helper()
	sp, err := spool.Open(filepath.Join(s.dir, name), spool.Options{Volatile: volatile})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { sp.Close() })
	return sp
}

func (s *stage) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// calls returns what the standby's commands were called with since it was asked last.
func (s *stage) calls() string {
	path := filepath.Join(s.dir, "calls")
	text, _ := os.ReadFile(path)
	os.Remove(path)
	return strings.ReplaceAll(strings.TrimSuffix(string(text), "\n"), "\n", ", ")
}

const noted = `cd "$1"; read -r line; [ "$line" = "$REPLD_POSITION" ] || exit 9
[ "$REPLD_GROUP/$REPLD_DATABASE" = g/d ] || exit 8
while [ -e "wait-$REPLD_ACTION" ]; do sleep 0.01; done
[ -e "fail-$REPLD_ACTION" ] && { echo "no disk" >&2; exit "$(cat "fail-$REPLD_ACTION")"; }
[ "$REPLD_ACTION" = position ] && exec cat at
echo "$REPLD_ACTION $REPLD_POSITION" >> calls; echo "this is not read"`

func (s *stage) commands() Commands {
	argv := []string{"/bin/sh", "-c", noted, "sh", s.dir}
	return Commands{Position: argv, Hold: argv, Advance: argv, Promote: argv, Rejoin: argv, Health: argv}
}

func (s *stage) source() *Source {
	s.t.Helper()
	src, err := NewSource(SourceOptions{Group: "g", Name: "d", Commands: s.commands(), Spool: s.spool("window", true), Dir: filepath.Join(s.dir, "home")})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { src.Close() })
	return src
}

func (s *stage) gate(former bool) *Gate {
	s.t.Helper()
	g, err := OpenGate(GateOptions{Group: "g", Name: "d", Commands: s.commands(), Spool: s.stream, Dir: filepath.Join(s.dir, "gate"), Former: former})
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

// hold has the gate hold until the test or the function that it returns ends it.
func (s *stage) hold(g *Gate) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Hold(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			s.t.Errorf("Hold ended with %v", err)
		}
		ended <- context.Canceled
	}
	s.t.Cleanup(stop)
	return stop
}

// cut reads and confirms the position as a barrier does.
func (s *stage) cut(src *Source) dblog.Point {
	s.t.Helper()
	r, err := src.Position(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := src.Confirm(s.t.Context(), r, change.BarrierID{})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// ship carries the stream to the standby up to a position, as package ship does.
func (s *stage) ship(src *Source, to change.StreamPosition) error {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	window := src.opts.Spool
	if err := window.Reset(); err != nil {
		s.t.Fatal(err)
	}
	from := s.stream.End()
	shipped := make(chan error, 1)
	go func() { shipped <- src.Ship(ctx, from) }()
	defer func() {
		cancel()
		<-shipped
	}()
	if err := window.WaitFor(ctx, change.StreamPosition{}); err != nil {
		return err
	}
	at := change.StreamPosition{}
	if start := window.Start(); !from.IsZero() && start.Chapter == from.Chapter {
		at = start
	}
	buf := make([]byte, 2*spool.MaxFrame)
	for s.stream.End().Before(to) {
		n, next, err := window.ReadRaw(buf, at)
		if errors.Is(err, io.EOF) {
			if err = window.WaitFor(ctx, at); err == nil {
				continue
			}
		}
		if err == nil {
			err = s.stream.AppendRaw(buf[:n])
		}
		if err != nil {
			return err
		}
		at = next
	}
	if err := s.stream.Sync(); err != nil {
		return err
	}
	src.Acknowledge(s.stream.Durable(), change.StreamPosition{})
	return nil
}

func (s *stage) advance(g *Gate, p dblog.Point) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	if err := g.Advance(ctx, p); err != nil {
		s.t.Fatalf("advance to %v: %v; %v", p.Position, err, g.Health())
	}
}

func poll(t *testing.T, what string, done func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		<-again.C
	}
}

func want(t *testing.T, what, found, want string) {
	t.Helper()
	if found != want {
		t.Errorf("%s: found %q, want %q", what, found, want)
	}
}
