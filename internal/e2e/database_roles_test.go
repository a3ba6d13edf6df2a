package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"repld/control"
	"repld/dblog/postgres/postgrestest"
	"repld/internal/pairtest"
	"repld/internal/testfs"
	"repld/wire/wiretest"
)

// seat is one machine's half of a pair with a database: either may serve.
type seat struct {
	t    *testing.T
	name string
	dir  string // everything of it
	tree string
	data string // the server's data directory
	host string // of its socket
	node *node

	engine seatEngine
}

// seatEngine is what a seat must know of the engine of its server.
type seatEngine interface {
	ids(t testing.TB) (uid, gid int)
	// commands returns the lines of shell scripts that start the server, shut it down
	// cleanly and end it at once, run as the servers' user.
	commands(s *seat) (start, stop, end string)
	// block is the engine's block in the configuration, without what all engines have:
	// connection string and commands.
	block(s *seat) (word, keys string)
	dsn(s *seat) string
	// create makes an empty database, whose server doesn't run.
	create(s *seat)
	pid(s *seat) string // path of the file that holds the server's process
	database(s *seat) database
	name() string
	// order says where the database is of a load in a process of its own.
	order(s *seat, o *pairtest.Order)
	// schema is the statement that goes to where a soak makes its tables; "": none.
	schema() string
	// prepare makes what sound needs, on the primary; sound fails the test if the tables
	// aren't whole, and returns what can be compared with those of the other server.
	prepare(s *seat)
	sound(s *seat) string
	// seeds reports whether a replica must be made anew after the primary's server was
	// restarted.
	seeds() bool
	// kept are what was put aside of a former primary's data.
	kept(s *seat) []string
}

// dataKeys are what the engines have whose servers have a data directory.
func (s *seat) dataKeys() string {
	uid, _ := s.engine.ids(s.t)
	owner, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("data_dir: %s, user: %s", s.data, owner.Username)
}

// keptData are data directories that were put aside.
func (s *seat) keptData() []string {
	kept, err := filepath.Glob(s.data + ".kept-*")
	if err != nil {
		s.t.Fatal(err)
	}
	return kept
}

func (s *seat) dsn() string { return s.engine.dsn(s) }

// script writes a program that does something as the servers' user.
func (s *seat) script(name, command string) string {
	s.t.Helper()
	uid, gid := s.engine.ids(s.t)
	path := filepath.Join(s.dir, name)
	write(s.t, path, fmt.Sprintf("#!/bin/sh\ncd / && exec %s --reuid %d --regid %d --clear-groups sh -c '%s'\n",
		testfs.NeedProgram(s.t, "setpriv", "util-linux"), uid, gid, command))
	if err := os.Chmod(path, 0o755); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// crash takes the server down as a crash of the machine would.
func (s *seat) crash() {
	s.t.Helper()
	pid, err := os.ReadFile(s.engine.pid(s))
	if err != nil {
		s.t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(pid), "\n")
	n, err := strconv.Atoi(first)
	if err != nil || n < 2 {
		s.t.Fatalf("the server's pid file begins with %q", first)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	poll(s.t, "the server is gone", func() error {
		if err := s.engine.database(s).Exec(s.t.Context(), "SELECT 1"); err == nil {
			return fmt.Errorf("it answers")
		}
		return nil
	})
}

// postgresSeat is the engine PostgreSQL.
type postgresSeat struct{}

func (postgresSeat) ids(t testing.TB) (uid, gid int) { return postgrestest.IDs(t) }

func (postgresSeat) commands(s *seat) (start, stop, end string) {
	ctl := fmt.Sprintf("exec %s -D %s -l %s.log ", postgrestest.Program(s.t, "pg_ctl"), s.data, s.data)
	return ctl + fmt.Sprintf(`-W -o "-k %s -c listen_addresses= -c max_wal_size=1GB" start`, s.host), ctl + "-m fast -w stop", ctl + "-m immediate -w stop"
}

func (postgresSeat) block(s *seat) (word, keys string) {
	return "postgres", s.dataKeys() + ", socket_dir: " + filepath.Join(s.dir, "gate")
}

func (postgresSeat) dsn(s *seat) string {
	return fmt.Sprintf("host=%s user=postgres dbname=postgres connect_timeout=5", s.host)
}

func (postgresSeat) create(s *seat) {
	s.t.Helper()
	initdb := postgrestest.Command(s.t.Context(), s.t, "initdb", "-D", s.data, "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
	if out, err := initdb.CombinedOutput(); err != nil {
		s.t.Fatalf("initdb: %v\n%s", err, out)
	}
}

func (postgresSeat) pid(s *seat) string { return filepath.Join(s.data, "postmaster.pid") }

func (e postgresSeat) database(s *seat) database { return pairtest.Postgres{DSN: e.dsn(s)} }

func (postgresSeat) name() string { return "PostgreSQL" }

func (postgresSeat) seeds() bool { return false }

func (postgresSeat) kept(s *seat) []string { return s.keptData() }

func (e postgresSeat) order(s *seat, o *pairtest.Order) { o.Postgres = e.dsn(s) }

func (postgresSeat) schema() string { return "" }

func (e postgresSeat) prepare(s *seat) {
	s.t.Helper()
	if !postgrestest.Has(s.t, "pg_amcheck") {
		return
	}
	if err := e.database(s).Exec(s.t.Context(), "CREATE EXTENSION amcheck"); err != nil {
		s.t.Fatal(err)
	}
}

func (postgresSeat) sound(s *seat) string {
	s.t.Helper()
	if !postgrestest.Has(s.t, "pg_amcheck") {
		return ""
	}
	cmd := postgrestest.Command(s.t.Context(), s.t, "pg_amcheck", "-h", s.host, "-U", "postgres", "--heapallindexed", "postgres")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("pg_amcheck of %s: %v\n%s", s.name, err, out)
	}
	return "pg_amcheck is content"
}

func newSeat(t *testing.T, e seatEngine, dir, name, designated, listen, barrier string) *seat {
	t.Helper()
	s := &seat{t: t, engine: e, name: name, dir: filepath.Join(dir, name), tree: filepath.Join(dir, name, "t"), host: filepath.Join(dir, name, "db")}
	s.data = filepath.Join(s.host, "data")
	mkdirs(t, s.tree, s.host)
	uid, gid := e.ids(t)
	if err := os.Chown(s.host, uid, gid); err != nil {
		t.Fatal(err)
	}
	first, last, kill := e.commands(s)
	start, stop, end := s.script("start", first), s.script("stop", last), s.script("end", kill)
	t.Cleanup(func() {
		_ = exec.Command(end).Run() // it may be down
		if log, _ := os.ReadFile(s.data + ".log"); t.Failed() {
			t.Logf("--- the end of the log of the server of %s\n%s", name, log[max(0, len(log)-3000):])
		}
	})
	s.node = newNode(t, name, "", filepath.Join(s.dir, "state"))
	s.node.conf = s.node.state + ".yaml"
	word, keys := e.block(s)
	write(t, s.node.conf, fmt.Sprintf(`node: %s
designated: %s
listen: %q
state: %s
control: %s.sock
disk_reserve: 8MB
groups:
  - name: shop
    trees: [{name: up, path: %s}]
    barrier: %s
    guard: {changed: 100%%}
    databases:
      - {name: %s, %s: {dsn: %q, start: [%s], stop: [%s], %s}}
`, name, designated, listen, s.node.state, s.node.state, s.tree, barrier, paired, word, s.dsn(), start, stop, keys))
	return s
}

// newSeats starts two services and pairs them; the first one serves, with a server.
// barrier is the group's setting.
func newSeats(t *testing.T, e seatEngine, barrier string) (d *databases, a, b *seat) {
	t.Helper()
	testfs.NeedRoot(t)
	dir := tempDir(t)
	d = &databases{seed: seeded(t), pair: &pair{t: t, dir: dir}}
	listen := freePort(t)
	addr, err := net.ResolveUDPAddr("udp", listen)
	if err != nil {
		t.Fatal(err)
	}
	d.relay = wiretest.NewRelay(t, addr, d.seed, wiretest.RelayOptions{})
	a, b = newSeat(t, e, dir, "a", "primary", "127.0.0.1:0", barrier), newSeat(t, e, dir, "b", "secondary", listen, barrier)
	e.create(a)
	if out, err := exec.Command(filepath.Join(a.dir, "start")).CombinedOutput(); err != nil {
		t.Fatalf("start: %v\n%s", err, out)
	}
	poll(t, "the server answers", func() error {
		return e.database(a).Exec(t.Context(), "SELECT 1")
	})
	d.seated(a, b)
	b.node.start()
	a.node.start()
	b.node.up()
	a.node.up()
	token := b.node.must("invite", "--address", d.relay.Addr())
	a.node.must("join", strings.TrimSpace(token[strings.LastIndex(token, " ")+1:]))
	d.linked()
	if err := d.serving.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d, a, b
}

// seated says who serves, and who stands by.
func (d *databases) seated(serves, stands *seat) {
	d.primary, d.standby, d.from, d.to = serves.node, stands.node, serves.tree, stands.tree
	d.serving, d.replica = serves.engine.database(serves), stands.engine.database(stands)
	d.data = stands.data
}

// following waits until the standby's replica is connected, and its gate open.
func (d *databases) following() {
	d.t.Helper()
	poll(d.t, "the replica follows", func() error {
		var list control.DatabaseList
		r := d.standby.ctl("database", "status", "--json")
		if err := json.Unmarshal([]byte(r.stdout), &list); err != nil {
			return fmt.Errorf("%w: %s%s", err, r.stdout, r.stderr)
		}
		for _, b := range list.Databases {
			if b.Connected && b.Gate != "" {
				return nil
			}
		}
		s, err := d.standby.status()
		if err != nil {
			return err
		}
		return fmt.Errorf("%+v; %+v", list.Databases, s.Health)
	})
}

// follows waits until the standby's replica is there, and checks it under load.
func (d *databases) follows() {
	d.t.Helper()
	d.following()
	d.work(2, 20*time.Millisecond)
	d.barriers(lasting(d.t, 0), 2)
	d.rest()
	d.settle()
	d.checkHeld(pairtest.Demand{First: d.first, Least: d.load.Done()})
}

// exact checks files and rows of the node that serves now.
func (d *databases) exact(demand pairtest.Demand) {
	d.t.Helper()
	rows, err := d.serving.Rows(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	demand.Seed = d.seed
	if _, err := pairtest.Check(d.from, rows, demand); err != nil {
		d.t.Fatal(err)
	}
}

// TestDatabaseChangesSides: a cutover loses nothing, and the old primary follows without
// a seed; a failover promotes files and rows of one barrier, and the old primary's data
// are kept while a replica takes their place; a failback ends the circle.
func TestDatabaseChangesSides(t *testing.T) {
	t.Parallel()
	changeSides(t, postgresSeat{}, true)
}

// changeSides does that; not whole, it leaves out the way back, unless it is a soak.
func changeSides(t *testing.T, e seatEngine, whole bool) {
	t.Helper()
	d, a, b := newSeats(t, e, "{every: 200ms}")
	d.standby.must("database", "seed", paired)
	d.follows()

	// A cutover.
	d.work(2, 20*time.Millisecond)
	d.settle()
	d.rest()
	begun := time.Now()
	d.primary.must("cutover", "--yes")
	t.Logf("cutover took %v", time.Since(begun).Round(time.Millisecond))
	d.seated(b, a)
	d.exact(pairtest.Demand{First: d.first, Least: d.load.Done()})
	d.follows()
	if kept := e.kept(a); len(kept) > 0 {
		t.Fatalf("after a cutover the old data were put aside: %v", kept)
	}

	// A failover: all of b's processes are killed, in the midst of operations.
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
	d.seated(a, b)
	d.exact(pairtest.Demand{First: d.first})

	// The old one comes back, and rejoins.
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
	// A server without a log may have lost in its crash what only it had.
	if kept := e.kept(b); len(kept) > 1 || len(kept) == 0 && !e.seeds() {
		t.Fatalf("after a failover the old data are kept as %v, want one", kept)
	} else if log := b.node.must("events"); len(kept) > 0 && !strings.Contains(log, kept[0]) {
		t.Errorf("nothing tells of %s:\n%s", kept[0], log)
	}
	t.Logf("%d operations; %d checks with %d rows, %d operations in flight", d.operations, d.checks, d.rows, d.inFlight)
	if !whole && os.Getenv("REPLD_SOAK") == "" {
		return
	}
	d.primary.must("cutover", "--yes")
	d.seated(b, a)
	poll(t, "it fails back, once the other one follows", func() error {
		if r := d.primary.ctl("failback", "--yes"); r.code != 0 {
			return fmt.Errorf("exit %d: %s", r.code, r.stderr)
		}
		return nil
	})
	d.seated(a, b)
	d.exact(pairtest.Demand{First: d.first, Least: d.load.Done()})
	d.follows()
}
