package redis

import (
	"context"
	"strings"
	"testing"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/dblogtest"
	"repld/health"
)

var barrierID = change.BarrierID{Epoch: 1, Seq: 1}

// TestConditionsOfThePrimary makes each, and takes it back.
func TestConditionsOfThePrimary(t *testing.T) {
	t.Parallel()
	s := start(t, diskless...)
	open := func(login string) *Source {
		t.Helper()
		source, err := NewSource(SourceOptions{Name: "db", DSN: "unix://" + login + s.socket(), Dir: t.TempDir()})
		must(t, err)
		t.Cleanup(func() { source.Close() })
		return source
	}
	says := func(source *Source, code health.Code, text string) {
		t.Helper()
		if err := source.Check(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
			t.Fatalf("found %v, want %q", err, text)
		}
		wantText(t, source.Health(), code, text)
	}
	source := open("")
	must(t, source.Check(t.Context()))
	r, err := source.Position(t.Context())
	must(t, err)

	s.must("ACL", "SETUSER", "reader", "on", ">secret", "+ping", "+info", "+acl|whoami", "+acl|dryrun")
	says(open("reader:secret@"), health.DatabaseSetup, "his user has no permissions to run the 'psync' command")
	says(open("reader:wrong-secret@"), health.DatabaseSetup, "it refused the login: WRONGPASS")
	s.must("ACL", "SETUSER", "repld", "on", ">secret", "+ping", "+info", "+psync", "+replconf")
	must(t, open("repld:secret@").Check(t.Context()))

	s.must("REPLICAOF", "127.0.0.1", "1")
	says(source, health.DatabaseSetup, "the server is a replica itself, of 127.0.0.1 port 1")
	if _, err := source.Position(t.Context()); err == nil {
		t.Error("a replica has a position")
	}
	if _, err := source.Confirm(t.Context(), r, barrierID); err == nil {
		t.Error("a position was confirmed by a replica")
	}
	s.must("REPLICAOF", "NO", "ONE")
	must(t, source.Check(t.Context()))
	if list := source.Health(); len(list) > 0 {
		t.Errorf("conditions %v are left", list)
	}

	s.kill()
	says(source, health.DatabaseDown, "can't be reached")
	if _, err := source.Confirm(t.Context(), r, barrierID); err == nil {
		t.Error("a position was confirmed by a server that is down")
	}
	s.start()
	_, err = source.Confirm(t.Context(), r, barrierID)
	wantErr(t, err, dblog.ErrRestarted)
	must(t, source.Check(t.Context()))
	again, err := source.Position(t.Context())
	must(t, err)
	if again.Position.Chapter <= r.Position.Chapter {
		t.Errorf("a restarted server is at %v, it was at %v", again.Position, r.Position)
	}
	if list := source.Health(); len(list) > 0 {
		t.Errorf("conditions %v are left", list)
	}

	cluster := start(t, "--cluster-enabled", "yes", "--port", "0")
	node, err := NewSource(SourceOptions{Name: "db", DSN: "unix://" + cluster.socket()})
	must(t, err)
	defer node.Close()
	says(node, health.DatabaseSetup, "Redis Cluster")
	if err := (info{"redis_version": "6.2.14"}).unsuitable(); err == nil || !strings.Contains(err.Error(), "Redis 6.2.14, want 7.0") {
		t.Errorf("an old server: %v", err)
	}
}

// TestStreamThatIsGone finds out that a server can't go on where the standby is, and that a
// seed helps.
func TestStreamThatIsGone(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	gone := func(text string) {
		t.Helper()
		wantErr(t, p.source.Ship(ctx, p.Spool.End()), dblog.ErrNeedsSeed)
		wantText(t, p.source.Health(), health.DatabaseNeedsSeed, text)
		p.seed()
		p.Barrier()
		eventually(t, "it is well", func() bool { return len(p.source.Health())+len(p.gate.Health()) == 0 })
	}
	// The link was down for longer than the server remembers.
	p.primary.must("CONFIG", "SET", "repl-backlog-size", "16384")
	must(t, p.Break())
	p.primary.must("SET", "big", strings.Repeat("x", 100_000))
	gone("want a larger repl-backlog-size than 16384 bytes")
	if got := p.replica.must("STRLEN", "big"); got != "100000" {
		t.Errorf("big has %s bytes on the replica", got)
	}

	// Another server in its place; a barrier of its stream can't be reached.
	must(t, p.Break())
	p.primary.must("DEBUG", "CHANGE-REPL-ID")
	p.primary.must("SET", "after", "1")
	point, err := p.Cut()
	must(t, err)
	wantErr(t, p.gate.Release(point), dblog.ErrNeedsSeed)
	wantText(t, p.gate.Health(), health.DatabaseNeedsSeed, "of the primary's stream")
	eventually(t, "a look at the replica doesn't take that back", func() bool { return p.gate.Check(ctx) != nil })
	gone("the server's replication id is ")
	if got := p.replica.must("GET", "after"); got != "1" {
		t.Errorf("after is %q on the replica", got)
	}

	// What was never made.
	other, err := NewSource(SourceOptions{Name: "db", DSN: "unix://" + p.primary.socket(), Spool: p.Window, Dir: t.TempDir()})
	must(t, err)
	defer other.Close()
	wantErr(t, other.Ship(ctx, change.StreamPosition{}), dblog.ErrNeedsSeed)
	// A standby that has more than the server gave.
	end := p.Spool.End()
	end.Offset += 1000
	must(t, p.Break())
	wantErr(t, p.source.Ship(ctx, end), dblog.ErrNeedsSeed)
}

// TestConditionsOfTheReplica makes each, and takes it back.
func TestConditionsOfTheReplica(t *testing.T) {
	t.Parallel()
	p := unseeded(t)
	eventually(t, "it was never made", func() bool {
		list := p.gate.Health()
		return len(list) == 1 && list[0].Code == health.DatabaseNeedsSeed && strings.Contains(list[0].Text, "it was never made")
	})
	p.primary.must("SET", "k", "1")
	p.seed()
	point := p.Barrier()
	p.keeper.Stop()
	p.keeper = dblogtest.Start(func(ctx context.Context) error { <-ctx.Done(); return nil }) // Check is called here alone
	check := func() error { return p.gate.Check(t.Context()) }
	must(t, check())
	if list := p.gate.Health(); len(list) > 0 {
		t.Fatalf("conditions %v are left", list)
	}

	p.replica.must("REPLICAOF", "127.0.0.1", "1")
	wantErr(t, check(), dblog.ErrBypass)
	wantText(t, p.gate.Health(), health.DatabaseBypass, "it is a replica of 127.0.0.1 port 1, want 127.0.0.1 port ")
	_, err := p.gate.Promote(t.Context())
	wantErr(t, err, dblog.ErrBypass)
	p.replica.must("REPLICAOF", "127.0.0.1", portOf(p.gate))
	eventually(t, "it is well again", func() bool { return check() == nil && len(p.gate.Health()) == 0 })

	p.replica.must("CONFIG", "SET", "replica-read-only", "no")
	p.replica.must("CONFIG", "SET", "repl-timeout", "60")
	must(t, check())
	if got := p.replica.must("CONFIG", "GET", "replica-read-only"); got != "yes" {
		t.Errorf("replica-read-only is %s", got)
	}
	if got := p.replica.must("CONFIG", "GET", "repl-timeout"); got != patience {
		t.Errorf("repl-timeout is %s", got)
	}

	// A password that is wrong, and one that is changed back by us.
	p.replica.must("CONFIG", "SET", "masterauth", "wrong")
	p.replica.must("CLIENT", "KILL", "TYPE", "master")
	eventually(t, "it is well again", func() bool { return check() == nil && p.at(point) })

	// Somebody ended replication and writes: that isn't undone by itself.
	p.replica.must("REPLICAOF", "NO", "ONE")
	p.replica.must("SET", "own", "1")
	wantErr(t, check(), dblog.ErrAhead)
	wantText(t, p.gate.Health(), health.DatabaseAhead, "it is no replica any more")
	p.primary.must("SET", "k", "2")
	next, err := p.Cut()
	must(t, err)
	p.Arrived(next)
	must(t, p.gate.Release(next))
	_, err = p.gate.Promote(t.Context())
	wantErr(t, err, dblog.ErrAhead)
	p.seed()
	next, err = p.Cut()
	must(t, err)
	p.Arrived(next)
	must(t, p.gate.Release(next))
	eventually(t, "a seed makes it one again", func() bool { return check() == nil && p.at(next) })
	if got := p.replica.must("GET", "own"); got != "" {
		t.Errorf("own is %q", got)
	}
	if kept := p.kept(); len(kept) != 1 {
		t.Errorf("its own keys are kept as %v", kept)
	}

	p.replica.kill()
	if check() == nil {
		t.Fatal("a server that is down is well")
	}
	wantText(t, p.gate.Health(), health.DatabaseDown, "can't be reached")
	p.replica.start()
	eventually(t, "it is a replica again", func() bool { return check() == nil && p.at(next) })
	if list := p.gate.Health(); len(list) > 0 {
		t.Errorf("conditions %v are left", list)
	}
}
