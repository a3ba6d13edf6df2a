package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"repld/control"
	"repld/internal/pairtest"
	"repld/internal/testfs"
	"repld/wire/wiretest"
)

// redisSeat is one machine's half of a pair with a Redis server: either may serve.
type redisSeat struct {
	t    *testing.T
	dir  string
	node *node
}

func (s *redisSeat) socket() string { return filepath.Join(s.dir, "s") }
func (s *redisSeat) tree() string   { return filepath.Join(s.dir, "t") }

// script writes a program.
func (s *redisSeat) script(name, command string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	write(s.t, path, "#!/bin/sh\n"+command+"\n")
	if err := os.Chmod(path, 0o755); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *redisSeat) run(name string) {
	s.t.Helper()
	if out, err := exec.Command(filepath.Join(s.dir, name)).CombinedOutput(); err != nil {
		s.t.Fatalf("%s in %s: %v\n%s", name, s.dir, err, out)
	}
}

// startServer starts the server and waits until it answers.
func (s *redisSeat) startServer() {
	s.t.Helper()
	s.run("start")
	poll(s.t, "the server answers", func() error { return s.database().Exec(s.t.Context(), "PING") })
}

// crash takes the server down as a crash of the machine would.
func (s *redisSeat) crash() {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "pid"))
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || n < 2 {
		s.t.Fatalf("the server's pid file holds %q", text)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	poll(s.t, "the server is gone", func() error {
		if err := s.database().Exec(s.t.Context(), "PING"); err == nil {
			return fmt.Errorf("it answers")
		}
		return nil
	})
}

func (s *redisSeat) database() redisDatabase {
	return redisDatabase{pairtest.Redis{Socket: s.socket()}, s.node}
}

// kept are the files of keys that were put aside.
func (s *redisSeat) kept() []string {
	s.t.Helper()
	list, err := filepath.Glob(filepath.Join(s.node.state, "groups", "*", "servers", paired, "kept-*.rdb"))
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// redisDatabase asks the node where the replica is.
type redisDatabase struct {
	pairtest.Redis
	node *node
}

// Replayed returns the offset without the replication id, as certificates have it.
func (r redisDatabase) Replayed(context.Context) (string, error) {
	var list control.DatabaseList
	answer := r.node.ctl("database", "status", "--json")
	if err := json.Unmarshal([]byte(answer.stdout), &list); err != nil {
		return "", fmt.Errorf("%w: %s%s", err, answer.stdout, answer.stderr)
	}
	for _, b := range list.Databases {
		if b.Name == paired {
			_, offset, _ := strings.Cut(b.Replayed, ":")
			return offset, nil
		}
	}
	return "", fmt.Errorf("no database %s in %+v", paired, list)
}

// redisSeats starts two services and pairs them; the first one serves.
func redisSeats(t *testing.T) (d *databases, a, b *redisSeat) {
	t.Helper()
	server, cli := testfs.NeedProgram(t, "redis-server", "redis-server"), testfs.NeedProgram(t, "redis-cli", "redis-tools")
	dir := tempDir(t)
	d = &databases{seed: seeded(t), pair: &pair{t: t, dir: dir}}
	listen := freePort(t)
	addr, err := net.ResolveUDPAddr("udp", listen)
	if err != nil {
		t.Fatal(err)
	}
	d.relay = wiretest.NewRelay(t, addr, d.seed, wiretest.RelayOptions{})
	machine := func(name, designated, listen string) *redisSeat {
		s := &redisSeat{t: t, dir: filepath.Join(dir, name)}
		mkdirs(t, s.tree())
		start := s.script("start", fmt.Sprintf("exec %s --port 0 --unixsocket %s --dir %s --pidfile %s --logfile %s --daemonize yes --save '3600 1' --repl-diskless-sync-delay 0",
			server, s.socket(), s.dir, filepath.Join(s.dir, "pid"), filepath.Join(s.dir, "log")))
		stop := s.script("stop", fmt.Sprintf("exec %s -s %s SHUTDOWN", cli, s.socket()))
		s.node = newNode(t, name, "", filepath.Join(s.dir, "state"))
		s.node.conf = s.node.state + ".yaml"
		t.Cleanup(func() {
			if s.database().Exec(context.Background(), "PING") == nil {
				s.crash()
			}
			if log, _ := os.ReadFile(filepath.Join(s.dir, "log")); t.Failed() {
				t.Logf("--- the end of the log of the server of %s\n%s", name, log[max(0, len(log)-3000):])
			}
		})
		write(t, s.node.conf, fmt.Sprintf(`node: %s
designated: %s
listen: %q
state: %s
control: %s.sock
disk_reserve: 8MB
groups:
  - name: shop
    trees: [{name: up, path: %s}]
    barrier: {every: 200ms}
    guard: {changed: 100%%}
    databases:
      - {name: %s, redis: {mode: gate, dsn: "unix://%s", spool_limit: 1GiB, start: [%s], stop: [%s]}}
`, name, designated, listen, s.node.state, s.node.state, s.tree(), paired, s.socket(), start, stop))
		return s
	}
	a, b = machine("a", "primary", "127.0.0.1:0"), machine("b", "secondary", listen)
	a.startServer()
	b.startServer()
	redisSeated(d, a, b)
	b.node.start()
	a.node.start()
	b.node.up()
	a.node.up()
	token := b.node.must("invite", "--address", d.relay.Addr())
	a.node.must("join", strings.TrimSpace(token[strings.LastIndex(token, " ")+1:]))
	d.linked()
	return d, a, b
}

// redisSeated says who serves, and who stands by.
func redisSeated(d *databases, serves, stands *redisSeat) {
	d.primary, d.standby, d.from, d.to = serves.node, stands.node, serves.tree(), stands.tree()
	d.serving, d.replica = serves.database(), stands.database()
}

// TestRedis: files and keys stand at one instant on the standby, at barriers under load,
// whatever is killed or cut; and a server that holds keys isn't taken.
func TestRedis(t *testing.T) {
	t.Parallel()
	d, _, b := redisSeats(t)
	if err := d.replica.Exec(t.Context(), "SET somebody's key"); err != nil {
		t.Fatal(err)
	}
	if r := d.standby.ctl("database", "seed", paired); r.code == 0 || !strings.Contains(r.stderr, "has 1 keys") {
		t.Fatalf("a server with keys was seeded: %d %s%s", r.code, r.stdout, r.stderr)
	}
	if err := d.replica.Exec(t.Context(), "FLUSHALL"); err != nil {
		t.Fatal(err)
	}
	d.work(2, 10*time.Millisecond)
	d.standby.must("database", "seed", paired)
	d.barriers(lasting(t, 0), 3)

	b.node.kill()
	b.node.start()
	b.node.up()
	d.linked()
	d.barriers(0, 1)
	b.crash()
	b.startServer()
	d.barriers(0, 1)
	d.relay.Cut()
	before := d.load.Total()
	poll(t, "the writers go on", func() error {
		if n := d.load.Total() - before; n < 100 {
			return fmt.Errorf("%d operations", n)
		}
		return nil
	})
	d.relay.Mend()
	d.linked()
	d.barriers(0, 1)
	d.rest()
	d.settle()
	d.checkHeld(pairtest.Demand{First: d.first, Least: d.load.Done()})
	t.Logf("%d operations; %d checks with %d rows, %d operations in flight", d.operations, d.checks, d.rows, d.inFlight)
}

// TestRedisChangesSides: a cutover loses nothing, and the old primary follows with nothing put
// aside; a failover promotes files and keys of one barrier, and what only the old primary has
// is kept when it becomes a replica.
func TestRedisChangesSides(t *testing.T) {
	t.Parallel()
	d, a, b := redisSeats(t)
	d.standby.must("database", "seed", paired)
	d.following()
	d.work(2, 20*time.Millisecond)
	d.settle()
	d.rest()
	begun := time.Now()
	d.primary.must("cutover", "--yes")
	t.Logf("cutover took %v", time.Since(begun).Round(time.Millisecond))
	redisSeated(d, b, a)
	d.exact(pairtest.Demand{First: d.first, Least: d.load.Done()})
	d.follows()
	if kept := a.kept(); len(kept) > 0 {
		t.Errorf("after a cutover keys were put aside: %v", kept)
	}

	d.work(2, 20*time.Millisecond)
	d.settle()
	b.node.kill()
	b.crash()
	if err := d.load.Stop(); err == nil {
		t.Log("the server died between two operations")
	}
	poll(t, "the link is seen to be down", func() error {
		s, err := a.node.status()
		if err == nil && s.Peer.Link == "up" {
			err = fmt.Errorf("the link is %s", s.Peer.Link)
		}
		return err
	})
	begun = time.Now()
	a.node.must("failover", "--peer-is-down", "--yes")
	t.Logf("failover took %v", time.Since(begun).Round(time.Millisecond))
	redisSeated(d, a, b)
	d.exact(pairtest.Demand{First: d.first})

	// The old one comes back, with keys that nobody else has.
	b.startServer()
	if err := b.database().Exec(t.Context(), "SET its own"); err != nil {
		t.Fatal(err)
	}
	b.node.start()
	b.node.up()
	d.linked()
	poll(t, "it rejoins, once it knows that it doesn't serve any more", func() error {
		if r := b.node.ctl("rejoin", "--yes"); r.code != 0 {
			return fmt.Errorf("exit %d: %s", r.code, r.stderr)
		}
		return nil
	})
	d.follows()
	if kept := b.kept(); len(kept) != 1 {
		t.Errorf("after a failover its keys are put aside as %v, want one file", kept)
	}
	t.Logf("%d operations; %d checks with %d rows, %d operations in flight", d.operations, d.checks, d.rows, d.inFlight)
}
