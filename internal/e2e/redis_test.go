package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/control"
	"repld/internal/pairtest"
	"repld/internal/testfs"
)

// redisSeat is the engine Redis. With a log a server that is killed loses nothing that it has
// answered; without it knows, after it was restarted, up to where it had followed.
type redisSeat struct{ log bool }

func (redisSeat) ids(testing.TB) (uid, gid int) { return os.Geteuid(), os.Getegid() }

func (redisSeat) socket(s *seat) string { return filepath.Join(s.host, "s") }

func (e redisSeat) commands(s *seat) (start, stop, end string) {
	server, cli := testfs.NeedProgram(s.t, "redis-server", "redis-server"), testfs.NeedProgram(s.t, "redis-cli", "redis-tools")
	persist := "no"
	if e.log {
		persist = "yes"
	}
	// Another server on the same data would take the socket away; that one runs is no error.
	start = fmt.Sprintf("mkdir -p %s && exec %s -n -E 0 %s.lock %s --port 0 --unixsocket %s --dir %s --pidfile %s --logfile %s.log --daemonize yes "+
		"--appendonly %s --save 3600 1 --repl-diskless-sync-delay 0 --repl-backlog-size 64mb --enable-debug-command local",
		s.data, testfs.NeedProgram(s.t, "flock", "util-linux"), s.data, server, e.socket(s), s.data, e.pid(s), s.data, persist)
	stop = fmt.Sprintf("exec %s -s %s SHUTDOWN", cli, e.socket(s))
	return start, stop, fmt.Sprintf("kill -9 $(cat %s)", e.pid(s))
}

func (redisSeat) block(*seat) (word, keys string) { return "redis", "mode: gate, spool_limit: 1GiB" }

func (e redisSeat) dsn(s *seat) string { return "unix://" + e.socket(s) }

func (redisSeat) create(*seat) {}

func (redisSeat) pid(s *seat) string { return filepath.Join(s.host, "pid") }

func (e redisSeat) database(s *seat) database {
	return redisDatabase{pairtest.Redis{Socket: e.socket(s)}, s.node}
}

func (redisSeat) name() string { return "Redis" }

func (e redisSeat) order(s *seat, o *pairtest.Order) { o.Redis = e.socket(s) }

func (redisSeat) schema() string { return "" }

func (redisSeat) prepare(*seat) {}

func (e redisSeat) sound(s *seat) string {
	s.t.Helper()
	digest, err := pairtest.Redis{Socket: e.socket(s)}.Sound(s.t.Context())
	if err != nil {
		s.t.Fatalf("the server of %s: %v", s.name, err)
	}
	return digest
}

// every is the pace of a writer: one whose commit waits for no disk would leave no
// instant at which no file changes.
func (redisSeat) every() time.Duration { return 4 * soakEvery }

func (redisSeat) seeds() bool { return true }

// kept are the files of keys that were put aside.
func (redisSeat) kept(s *seat) []string {
	s.t.Helper()
	list, err := filepath.Glob(filepath.Join(s.node.state, "groups", "*", "servers", paired, "kept-*.rdb"))
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// alter has the stream hold other things than keys that are set: databases that are
// exchanged and emptied, keys that end, messages.
func (redisSeat) alter(d *databases) {
	d.t.Helper()
	for i := range 100 {
		if err := d.serving.Exec(d.t.Context(), fmt.Sprintf("SET soak%d %d PX %d", i, i, 1+10*i)); err != nil {
			d.t.Fatal(err)
		}
	}
	for _, command := range []string{"COPY soak99 copied DB 9", "SWAPDB 8 9", "SWAPDB 8 9", "PUBLISH channel message", "FUNCTION FLUSH", "DEL copied"} {
		if err := d.serving.Exec(d.t.Context(), command); err != nil {
			d.t.Fatalf("%s: %v", command, err)
		}
	}
}

// redisDatabase asks the node's gate where the replica is.
type redisDatabase struct {
	pairtest.Redis
	node *node
}

// Replayed returns the offset without the replication id, as certificates have it.
func (r redisDatabase) Replayed(ctx context.Context) (string, error) {
	c := r.node.client()
	defer c.Close()
	list, err := c.Databases(ctx, control.DatabaseRequest{Name: paired})
	if err != nil {
		return "", err
	}
	for _, b := range list.Databases {
		if b.Name == paired {
			_, offset, _ := strings.Cut(b.Replayed, ":")
			return offset, nil
		}
	}
	return "", fmt.Errorf("no database %s in %+v", paired, list)
}

// TestRedis: files and keys stand at one instant on the standby, at barriers under load,
// whatever is killed or cut; and a server that holds keys isn't taken.
func TestRedis(t *testing.T) {
	t.Parallel()
	d, _, b := newSeats(t, redisSeat{}, "{every: 200ms}")
	b.startServer()
	if err := d.replica.Exec(t.Context(), "SET somebody's key"); err != nil {
		t.Fatal(err)
	}
	if r := d.standby.ctl("database", "seed", paired); r.code != 4 || !strings.Contains(r.stderr, "has 1 keys") {
		t.Fatalf("a server with keys was seeded: %d %s%s", r.code, r.stdout, r.stderr)
	}
	if err := d.replica.Exec(t.Context(), "FLUSHALL"); err != nil {
		t.Fatal(err)
	}
	d.work(2, redisSeat{}.every())
	d.standby.must("database", "seed", paired)
	d.barriers(lasting(t, 0), 3)

	b.restart(d)
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

// TestRedisChangesSides is TestDatabaseChangesSides with another engine: the old primary
// always gets all keys anew, and what only it has is put aside.
func TestRedisChangesSides(t *testing.T) {
	t.Parallel()
	changeSides(t, redisSeat{}, false)
}
