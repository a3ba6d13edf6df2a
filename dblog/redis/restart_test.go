package redis

import (
	"crypto/rand"
	"os"
	"strconv"
	"strings"
	"testing"

	"repld/dblog"
	"repld/dblog/spool"
	"repld/health"
)

// full reports whether the replica that is connected got the base.
func (p *pair) full() bool {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	return p.gate.session != nil && p.gate.session.full
}

// TestRestarts: whoever is killed, the replica is at the gate again, and goes on.
func TestRestarts(t *testing.T) {
	for name, args := range map[string][]string{
		"memory": nil, "snapshots": {"--save", "3600 1"}, "log": {"--appendonly", "yes", "--appendfsync", "always"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, append(append([]string{}, diskless...), args...)...)
			n := 0
			step := func(what string) {
				t.Helper()
				n++
				p.primary.must("SET", "k", strconv.Itoa(n))
				p.Barrier()
				if got := p.replica.must("GET", "k"); got != strconv.Itoa(n) {
					t.Fatalf("%s: k is %q on the replica, want %d", what, got, n)
				}
			}
			step("first")
			if !p.full() {
				t.Error("a new replica didn't get the base")
			}
			p.gate.mu.Lock()
			old := p.gate.session
			p.gate.mu.Unlock()
			p.replica.must("CLIENT", "KILL", "TYPE", "master")
			eventually(t, "it connects again", func() bool {
				p.gate.mu.Lock()
				defer p.gate.mu.Unlock()
				return p.gate.session != nil && p.gate.session != old
			})
			if p.full() {
				t.Error("a connection that broke has cost all keys")
			}
			step("connection")
			point, err := p.Cut()
			must(t, err)
			p.closeGate()
			p.openGate()
			if at := p.gate.Position(); at != point.Position {
				t.Errorf("the gate is at %v after it was opened anew, it was at %v", at, point.Position)
			}
			step("gate")
			p.replica.kill()
			p.replica.start()
			step("replica killed")
			if n := len(p.kept()); name != "log" && n > 0 {
				t.Errorf("keys that came from the gate are put aside: %v", p.kept())
			}
			p.replica.stop()
			p.replica.start()
			step("replica restarted")
			must(t, p.Break())
			must(t, p.source.Close())
			p.newSource(p.primary)
			p.Connect()
			step("source")
			if got, want := p.replica.must("DEBUG", "DIGEST"), p.primary.must("DEBUG", "DIGEST"); got != want {
				t.Errorf("the replica's digest is %s, the primary's %s", got, want)
			}
		})
	}
}

// TestBaseIsMadeAnew as the stream goes on, so that the spool can let go of it; a replica that
// has nothing gets it.
func TestBaseIsMadeAnew(t *testing.T) {
	t.Parallel()
	p := unseeded(t)
	p.options.RenewAfter = 1 << 20
	p.closeGate()
	p.openGate()
	p.seed()
	p.Barrier()
	first := p.base()
	for i := range 60 {
		p.primary.must("SELECT", "3")
		p.primary.must("SETRANGE", "k"+strconv.Itoa(i%5), strconv.Itoa(i), strings.Repeat(strconv.Itoa(i%10), 100_000))
		p.Barrier()
	}
	eventually(t, "the base is made anew", func() bool {
		p.gate.mu.Lock()
		defer p.gate.mu.Unlock()
		return p.gate.state.Gate-p.gate.state.Base < 1<<20
	})
	if st := p.base(); st.Base == first.Base {
		t.Error("the base is the first one")
	}
	if size := p.Spool.Bytes(); size > 4<<20 {
		t.Errorf("the spool takes %d bytes", size)
	}
	p.replica.kill() // it has nothing on disk
	p.replica.start()
	p.primary.must("SET", "k", "last")
	p.Barrier()
	if !p.full() {
		t.Error("a replica from nothing didn't get the base")
	}
	if got, want := p.replica.must("DEBUG", "DIGEST"), p.primary.must("DEBUG", "DIGEST"); got != want {
		t.Errorf("the replica's digest is %s, the primary's %s", got, want)
	}
	if kept := p.kept(); len(kept) > 0 {
		t.Errorf("keys are put aside: %v", kept)
	}
}

// TestServersThatHoldKeys aren't taken by a first seed, and lose none by another one.
func TestServersThatHoldKeys(t *testing.T) {
	t.Parallel()
	p := unseeded(t)
	p.replica.must("SET", "own", "1")
	wantErr(t, p.gate.Restore(t.Context(), strings.NewReader("REDIS0010")), dblog.ErrOccupied)
	p.replica.must("FLUSHALL")
	if err := p.gate.Restore(t.Context(), strings.NewReader("nonsense")); err == nil {
		t.Error("what is no RDB file was taken")
	}
	for _, tail := range []string{"", "{}", `{"chapter":1,"id":"x"}`} {
		if err := p.gate.Seeded([]byte(tail)); err == nil {
			t.Errorf("the tail %q was taken", tail)
		}
	}
	// A former primary is taken with what it has, which is kept unless it is to be given up.
	wantErr(t, p.gate.Rejoin(t.Context()), dblog.ErrNeedsSeed)
	for _, discard := range []bool{false, true} {
		p.replica.must("REPLICAOF", "NO", "ONE")
		p.replica.must("SET", "own", "1")
		if discard {
			must(t, p.gate.Discard())
		}
		p.seed()
		p.Barrier()
		if got := p.replica.must("GET", "own"); got != "" {
			t.Errorf("own is %q", got)
		}
		kept := p.kept()
		if len(kept) != 1 {
			t.Fatalf("its keys are kept as %v, want one file (discard %v)", kept, discard)
		}
		if b, err := os.ReadFile(kept[0]); err != nil || !strings.Contains(string(b), "own") {
			t.Errorf("what is kept is %q, %v", b, err)
		}
	}
	must(t, p.gate.Rejoin(t.Context())) // it is one
}

// TestAGateThatLostItsFiles says that it needs a seed, and takes one.
func TestAGateThatLostItsFiles(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	lost := func(text string) {
		t.Helper()
		wantText(t, p.gate.Health(), health.DatabaseNeedsSeed, text)
		if at := p.gate.Position(); !at.IsZero() {
			t.Errorf("the gate is at %v", at)
		}
		_, err := p.gate.Promote(t.Context())
		wantErr(t, err, dblog.ErrNotReached)
		p.seed()
		p.Barrier()
		eventually(t, "it is well", func() bool { return len(p.gate.Health()) == 0 })
	}
	p.primary.must("SET", "k", "1")
	point := p.Barrier()
	p.closeGate()
	must(t, os.Remove(p.gate.basePath(p.gate.state)))
	p.openGate()
	wantErr(t, p.gate.Release(point), dblog.ErrNeedsSeed)
	lost("the RDB file that the replica is made from is gone")
	p.closeGate()
	must(t, p.Break())
	must(t, p.Spool.Reset())
	p.openGate()
	lost("the spool ends at 0, the replica was let go up to ")
	flip := p.Spoils()
	p.primary.must("SET", "k", rand.Text()+rand.Text())
	point, err := p.Cut()
	must(t, err)
	p.Arrived(point)
	flip()
	must(t, p.gate.Release(point))
	eventually(t, "the damage is found", func() bool { return p.gate.Position().IsZero() })
	lost("the spool is damaged")
	must(t, p.gate.Release(dblog.Point{Position: p.gate.Position()}))
	beyond := p.gate.Position()
	beyond.Offset += 1 << 30
	wantErr(t, p.gate.Release(dblog.Point{Position: beyond}), spool.ErrBeyond)
}

// TestThePrimaryIsRestarted: a server that was shut down cleanly and has its keys in an RDB file
// goes on with its stream, and the replica with it. One that was killed doesn't.
func TestThePrimaryIsRestarted(t *testing.T) {
	t.Parallel()
	p := newPair(t, append(append([]string{}, diskless...), "--save", "3600 1")...)
	n := 0
	step := func(what string) {
		t.Helper()
		n++
		p.primary.must("SET", "k", strconv.Itoa(n))
		p.Barrier()
		if got := p.replica.must("GET", "k"); got != strconv.Itoa(n) {
			t.Fatalf("%s: k is %q on the replica, want %d", what, got, n)
		}
	}
	step("first")
	first := p.gate.Position()
	for i := range 3 {
		p.primary.must("SET", "behind", "the barrier")
		p.primary.stop()
		p.primary.start()
		step("restarted")
		if at := p.gate.Position(); at.Chapter != first.Chapter+uint32(i)+1 || at.Offset <= first.Offset {
			t.Errorf("the gate is at %v, it was at %v", at, first)
		}
		if p.full() {
			t.Error("the replica got all keys")
		}
		if i == 1 { // the replica is what it should be, from nothing too
			p.replica.kill()
			p.replica.start()
			step("the replica killed")
			p.closeGate()
			p.openGate()
			step("the gate opened anew")
			p.replica.must("CLIENT", "KILL", "TYPE", "master")
			step("the replica connected anew")
			must(t, p.Break())
			p.source.Close()
			p.newSource(p.primary)
			p.Connect()
			step("the source opened anew")
		}
	}
	if list := append(p.source.Health(), p.gate.Health()...); len(list) > 0 {
		t.Errorf("conditions %v", list)
	}
	if got, want := p.replica.must("DEBUG", "DIGEST"), p.primary.must("DEBUG", "DIGEST"); got != want {
		t.Errorf("the replica's digest is %s, the primary's %s", got, want)
	}
	p.primary.must("SET", "k", "lost")
	last, err := p.Cut()
	must(t, err)
	p.Arrived(last)
	p.primary.kill()
	p.primary.start()
	wantErr(t, p.GivenUp(), dblog.ErrNeedsSeed)
	made, err := p.gate.Promote(t.Context())
	must(t, err)
	if made.At != p.gate.Position() {
		t.Errorf("promoted at %v, the gate is at %v", made.At, p.gate.Position())
	}
	if kept := p.kept(); len(kept) > 0 {
		t.Errorf("keys were put aside: %v", kept)
	}
}
