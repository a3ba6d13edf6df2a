package postgres

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/postgres/postgrestest"
	"repld/dblog/spool"
)

// turn makes the promoted server the source, with a gate on what was the primary's node,
// where nothing is known of the stream yet.
func (p *pair) turn(old, now *postgrestest.Server) RestoreOptions {
	t := p.t
	t.Helper()
	must(t, p.Break())
	p.closeGate()
	p.source.Close()
	p.dir = postgrestest.Dir(t)
	must(t, os.Chmod(p.dir, 0o711))
	must(t, p.Window.Reset())
	var err error
	p.Spool, err = spool.Open(filepath.Join(p.dir, "spool"), spool.Options{SegmentSize: 1 << 20})
	must(t, err)
	sp := p.Spool
	t.Cleanup(func() { sp.Close() })
	p.newSource(now)
	p.options = func(o *GateOptions) { o.ReplicaDSN = old.DSN() }
	p.openGate()
	p.primary, p.replica = now, old
	uid, gid := postgrestest.IDs(t)
	conninfo, _ := p.gate.Conninfo(old.Data)
	return RestoreOptions{DataDir: old.Data, UID: uid, GID: gid, Conninfo: conninfo}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// slots counts a server's replication slots.
func slots(t *testing.T, s *postgrestest.Server) (n int) {
	t.Helper()
	must(t, s.Connect().QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots").Scan(&n))
	return n
}

// TestSwitchover shuts the primary down, promotes the replica at the end of its log, and
// lets the former primary follow without a seed, there and back.
func TestSwitchover(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec("CREATE TABLE a (n int)")
	for round := range 2 {
		old, now := p.primary, p.replica
		for range 5 {
			old.Exec("INSERT INTO a SELECT generate_series(1, 1000)")
		}
		p.Barrier()
		old.Exec("INSERT INTO a VALUES (1)")
		if err := p.source.Drained(within(t, 200*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a server that runs is drained: %v", err)
		}
		old.Stop(syscall.SIGINT) // waits for the standby
		must(t, p.source.Drained(within(t, 10*time.Second)))
		end := p.Spool.Durable()
		promotion, err := p.gate.PromoteAtEnd(within(t, 30*time.Second))
		must(t, err)
		if promotion.At != end || promotion.Chapter != uint32(round+2) {
			t.Fatalf("promoted at %s to timeline %d, want %s and %d", show(promotion.At), promotion.Chapter, show(end), round+2)
		}
		for _, again := range []func(context.Context) (dblog.Promotion, error){p.gate.PromoteAtEnd, p.gate.Promote} {
			if same, err := again(t.Context()); err != nil || same != promotion {
				t.Fatalf("promoted a second time: %+v, %v, want %+v", same, err, promotion)
			}
		}
		wantCount(t, now, 5001*(round+1))

		// The new primary is far from the fork when the old one comes back.
		for range 3 {
			now.Exec("INSERT INTO a VALUES (-1); SELECT pg_switch_wal(); CHECKPOINT")
		}
		now.Exec("DELETE FROM a WHERE n = -1")
		o := p.turn(old, now)
		if err := p.gate.Rejoin(within(t, 300*time.Millisecond), o); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("it rejoins what it can't know of: %v", err)
		}
		p.Connect()
		must(t, p.gate.Rejoin(within(t, 10*time.Second), o))
		must(t, p.gate.Rejoin(within(t, 10*time.Second), o)) // it is one already
		old.Launch()
		p.Barrier()
		wantCount(t, old, 5001*(round+1))
		eventually(t, "all is well, and no slot of its own is left on the replica", func() bool {
			return p.gate.Check(t.Context()) == nil && slots(t, old) == 0 && len(p.gate.Health()) == 0
		})
		if n := slots(t, now); n != 1 {
			t.Fatalf("the primary has %d slots, want 1", n)
		}
	}
}

// TestFailover promotes at the gate, with more on the old primary, which then doesn't
// follow; a seed from the new one makes it a replica.
func TestFailover(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec("CREATE TABLE a (n int)")
	p.primary.Exec("INSERT INTO a VALUES (1)")
	point := p.Barrier()
	p.primary.Exec("INSERT INTO a VALUES (2)")
	old, now := p.primary, p.replica
	old.Stop(syscall.SIGKILL)
	must(t, p.Break())
	promotion, err := p.gate.Promote(t.Context())
	must(t, err)
	if promotion.At != point.Position {
		t.Fatalf("promoted at %s, want %s", show(promotion.At), show(point.Position))
	}
	now.Exec("INSERT INTO a VALUES (3)")
	o := p.turn(old, now)
	p.Connect()
	wantErr(t, p.gate.Rejoin(within(t, 10*time.Second), o), dblog.ErrNeedsSeed) // it crashed
	old.Start()
	wantErr(t, p.gate.Rejoin(within(t, 10*time.Second), o), dblog.ErrRunning)
	old.Stop(syscall.SIGINT)
	wantErr(t, p.gate.Rejoin(within(t, 10*time.Second), o), dblog.ErrNeedsSeed) // it has more
	if _, err := os.Stat(filepath.Join(old.Data, "standby.signal")); err == nil {
		t.Fatal("what was refused was changed")
	}
	must(t, os.Rename(old.Data, old.Data+".kept"))
	wantErr(t, p.gate.Rejoin(within(t, 10*time.Second), o), dblog.ErrNeedsSeed) // nothing is there
	p.closeGate()
	p.options = nil // the replica will be another server
	p.openGate()
	p.seed()
	p.Barrier()
	wantCount(t, p.replica, 2)
	must(t, p.gate.Check(t.Context()))
}

func TestRejoinRefusesWhatDiverged(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec("CREATE TABLE a (n int)")
	point := p.Barrier()
	at := dblog.Promotion{At: point.Position, Chapter: 2}
	p.primary.Exec("INSERT INTO a VALUES (1)")
	o := RestoreOptions{DataDir: p.primary.Data, UID: -1, GID: -1}
	wantErr(t, Rejoin(at, o), dblog.ErrRunning)
	must(t, p.Break())
	p.primary.Stop(syscall.SIGINT)
	wantErr(t, Rejoin(at, o), dblog.ErrNeedsSeed)
	p.primary.Start()
	p.primary.Stop(syscall.SIGKILL)
	exec.Command("rm", filepath.Join(p.primary.Data, "postmaster.pid")).Run()
	wantErr(t, Rejoin(at, o), dblog.ErrNeedsSeed)
}

// TestDrainedByTheDataDirectory: the link breaks while the server shuts down, which then
// waits for nobody; what the data directory says counts.
func TestDrainedByTheDataDirectory(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec("CREATE TABLE a (n int)")
	p.Barrier()
	must(t, p.Break())
	p.primary.Stop(syscall.SIGINT)
	if err := p.source.Drained(within(t, 300*time.Millisecond)); err == nil {
		t.Fatal("drained without the record of the shutdown")
	}
	p.primary.Start()
	p.Connect()
	p.Barrier()
	p.primary.Stop(syscall.SIGINT)
	must(t, p.source.Drained(within(t, 10*time.Second)))
	p.source.shutDown(change.StreamPosition{}) // a daemon that was started since knows nothing
	must(t, p.source.Drained(within(t, 10*time.Second)))
}
