package postgres

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/postgres/postgrestest"
	"repld/dblog/spool"
	"repld/health"
)

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("REPLD_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 0, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("REPLD_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// TestExactThroughFaults stops and restarts, between barriers and under load, whatever
// stands between the two servers, and the replica.
func TestExactThroughFaults(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	p := newPair(t, nil)
	p.primary.Exec(loadSchema)
	l := startLoad(t, p.primary.DSN(), 4)
	p.Barrier()
	for i, end := 0, time.Now().Add(soak(t)); i < 12 || time.Now().Before(end); i++ {
		what := p.fault(rng)
		n, err := p.Note(l, rng.IntN(4) == 0)
		if err != nil {
			t.Fatalf("barrier %d after %s: %v", i, what, err)
		}
		p.Advance(n.Point)
		if err := checkNoted(n, p.replica.Connect()); err != nil {
			t.Fatalf("barrier %d at %s after %s: %v", i, show(n.Point.Position), what, err)
		}
	}
	l.Stop()
	t.Logf("%d transactions", l.Total(t))
}

// fault does something bad and undoes it. The stream goes on afterwards.
func (p *pair) fault(rng *rand.Rand) string {
	p.t.Helper()
	switch rng.IntN(6) {
	case 0:
		p.closeGate()
		p.openGate()
		return "the gate's restart"
	case 1:
		p.replica.Stop([]syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL}[rng.IntN(3)])
		p.replica.Start()
		return "the replica's restart"
	case 2:
		must(p.t, p.Break())
		p.Connect()
		return "a break of the link"
	case 3: // the standby's repld dies, and the end of its spool is torn
		must(p.t, p.Break())
		p.closeGate()
		must(p.t, p.Spool.Close())
		p.tear(rng)
		var err error
		p.Spool, err = spool.Open(filepath.Join(p.dir, "spool"), spool.Options{SegmentSize: 1 << 20})
		must(p.t, err)
		p.openGate()
		p.Connect()
		return "the standby's restart"
	case 4: // the primary's repld restarts
		must(p.t, p.Break())
		p.source.Close()
		must(p.t, p.Window.Reset())
		p.newSource(p.primary)
		p.Connect()
		return "the primary's restart"
	}
	return "nothing"
}

// tear cuts the last segment of the spool somewhere behind the gate.
func (p *pair) tear(rng *rand.Rand) {
	p.t.Helper()
	names, err := filepath.Glob(filepath.Join(p.dir, "spool", "*.spool"))
	must(p.t, err)
	last := names[len(names)-1]
	st, err := os.Stat(last)
	must(p.t, err)
	b, err := os.ReadFile(last)
	must(p.t, err)
	for range 10 { // the gate's position is durable: nothing before it is torn
		size := rng.Int64N(st.Size())
		must(p.t, os.Truncate(last, size))
		s, err := spool.Open(filepath.Join(p.dir, "spool"), spool.Options{SegmentSize: 1 << 20})
		if err == nil {
			end := s.End()
			s.Close()
			if !end.Before(p.gate.Position()) {
				return
			}
		}
		must(p.t, os.WriteFile(last, b, 0o600))
	}
}

// TestPositionOfAnotherStartIsRefused: what was read before a crash of the server means
// nothing after it, whether the postmaster was started anew or only its children.
func TestPositionOfAnotherStartIsRefused(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec("CREATE TABLE a (n int)")
	crashes := map[string]func(){
		"a restart": func() {
			p.primary.Stop(syscall.SIGQUIT)
			p.primary.Start()
		},
		"the postmaster's death": func() {
			p.primary.Stop(syscall.SIGKILL)
			p.primary.Start()
		},
		"a backend's crash": func() {
			c := p.primary.Connect()
			other := p.primary.Connect()
			must(t, syscall.Kill(int(c.PgConn().PID()), syscall.SIGKILL))
			eventually(t, "the server noticed", func() bool { return other.Ping(t.Context()) != nil })
			p.primary.WaitReady()
		},
	}
	for what, crash := range crashes {
		p.primary.Exec("INSERT INTO a VALUES (1)")
		r, err := p.source.Position(t.Context())
		must(t, err)
		crash()
		eventually(t, "the server answers", func() bool {
			_, err = p.Confirm(r)
			return !isDown(err)
		})
		if !errors.Is(err, dblog.ErrRestarted) {
			t.Errorf("after %s the position was confirmed with error %v, want %v", what, err, dblog.ErrRestarted)
		}
		eventually(t, "another position can be read", func() bool {
			r, err = p.source.Position(t.Context())
			return err == nil
		})
		point, err := p.Confirm(r)
		must(t, err)
		p.Advance(point)
	}
}

func isDown(err error) bool {
	if err == nil || errors.Is(err, dblog.ErrRestarted) {
		return false
	}
	code, _ := codeOf(err)
	return code == health.DatabaseDown
}

// TestTimelineSwitch lets the primary begin a new timeline in place, with the replica
// connected and not.
func TestTimelineSwitch(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec(loadSchema)
	for round := range 2 {
		l := startLoad(t, p.primary.DSN(), 2)
		if round > 0 {
			for w := range l.Acked {
				l.Acked[w].Store(0)
			}
		}
		eventually(t, "the load has begun", func() bool { return l.Total(t) > 20 })
		p.Barrier()
		l.Stop()
		if round == 1 {
			p.replica.Stop(syscall.SIGINT)
		}
		p.primary.Stop(syscall.SIGINT)
		must(t, os.WriteFile(filepath.Join(p.primary.Data, "standby.signal"), nil, 0o600))
		ownFile(t, filepath.Join(p.primary.Data, "standby.signal"))
		p.primary.Start()
		p.primary.Exec("SELECT pg_promote(true, 60)")
		p.primary.Exec("TRUNCATE a, b, last")
		l = startLoad(t, p.primary.DSN(), 2)
		if round == 1 {
			p.replica.Launch()
		}
		for i := range 5 {
			n, err := p.Note(l, i%2 == 0)
			must(t, err)
			if want := uint32(2 + round); n.Point.Position.Chapter != want {
				t.Fatalf("the barrier is on timeline %d, want %d", n.Point.Position.Chapter, want)
			}
			p.Advance(n.Point)
			if i > 0 { // tables are truncated while writers begin
				if err := checkNoted(n, p.replica.Connect()); err != nil {
					t.Fatalf("round %d, barrier %d at %s: %v", round, i, show(n.Point.Position), err)
				}
			}
		}
		l.Stop()
		p.primary.Exec("TRUNCATE a, b, last")
	}
}

func ownFile(t *testing.T, path string) {
	t.Helper()
	uid, gid := postgrestest.IDs(t)
	must(t, os.Chown(path, uid, gid))
}

// TestSlotLimit: a standby that stays away doesn't fill production's disk.
func TestSlotLimit(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.source.opts.SlotLimit = 2 << 20
	p.primary.Exec("CREATE TABLE a (x text)")
	p.Barrier()
	must(t, p.source.Check(t.Context()))
	must(t, p.Break())
	p.primary.Exec("INSERT INTO a SELECT repeat('x', 1000) FROM generate_series(1, 4000)")
	p.Connect() // the stream is under way, but nothing is acknowledged
	p.source.Acknowledge(change.StreamPosition{Chapter: 1, Offset: 1}, change.StreamPosition{})
	must(t, p.Break())
	if err := p.source.Check(t.Context()); !errors.Is(err, dblog.ErrNeedsSeed) {
		t.Fatalf("check of a slot over its limit: %v, want %v", err, dblog.ErrNeedsSeed)
	}
	st, err := p.source.Slot(t.Context())
	must(t, err)
	if st.Exists {
		t.Fatalf("the slot is still there: %+v", st)
	}
	wantCondition(t, p.source.Health(), health.DatabaseNeedsSeed)
	if err := p.source.Ship(t.Context(), p.Spool.End()); !errors.Is(err, dblog.ErrNeedsSeed) {
		t.Fatalf("the stream without its slot: %v, want %v", err, dblog.ErrNeedsSeed)
	}
	p.primary.Exec("INSERT INTO a VALUES ('production goes on')")

	// A seed mends it.
	p.replica.Stop(syscall.SIGQUIT)
	must(t, os.RemoveAll(p.replicaData()))
	must(t, p.Spool.Reset())
	p.seed()
	p.Barrier()
	must(t, p.source.Check(t.Context()))
	if list := append(p.source.Health(), p.gate.Health()...); len(list) > 0 {
		t.Fatalf("conditions after the seed: %v", list)
	}
}
