package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
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

// databases is a pair of services with one group: a tree, and a PostgreSQL server with
// a replica on the standby.
type databases struct {
	*pair
	seed    uint64
	server  *postgrestest.Server
	serving database // on the primary
	data    string   // the replica's data directory
	replica database // on the standby
	load    *pairtest.Load
	first   int // number of the load's first writer

	checks, inFlight, rows int
	operations             int64
	altered                int // changes of the schema
}

// database is a server of any engine.
type database interface {
	pairtest.Database
	Exec(ctx context.Context, sql string) error
	// Replayed returns where a replica is in its log, as its engine writes it.
	Replayed(ctx context.Context) (string, error)
	// RowsFrom returns the rows of writers from first on.
	RowsFrom(ctx context.Context, first int) ([]pairtest.Row, error)
}

// paired is a database at a barrier.
const paired = "main"

func newDatabases(t *testing.T) *databases {
	t.Helper()
	testfs.NeedRoot(t)
	dir := tempDir(t)
	d := &databases{seed: seeded(t), server: postgrestest.New(t, "max_wal_size=1GB"),
		pair: &pair{t: t, dir: dir, from: filepath.Join(dir, "from", "t"), to: filepath.Join(dir, "to", "t")}}
	mkdirs(t, d.from, d.to, filepath.Join(dir, "db"))
	uid, gid := postgrestest.IDs(t)
	if err := os.Chown(filepath.Join(dir, "db"), uid, gid); err != nil {
		t.Fatal(err)
	}
	d.serving = pairtest.Postgres{DSN: d.server.DSN()}
	d.data = filepath.Join(dir, "db", "replica")
	replica := fmt.Sprintf("host=%s user=postgres dbname=postgres connect_timeout=5", filepath.Join(dir, "db"))
	d.replica = pairtest.Postgres{DSN: replica}
	d.start(replica)
	return d
}

// start starts both services, pairs them and makes the replica.
func (d *databases) start(replica string) {
	t := d.t
	t.Helper()
	listen := freePort(t)
	addr, err := net.ResolveUDPAddr("udp", listen)
	if err != nil {
		t.Fatal(err)
	}
	d.relay = wiretest.NewRelay(t, addr, d.seed, wiretest.RelayOptions{})
	start := filepath.Join(d.dir, "start-replica")
	ctl := postgrestest.Command(t.Context(), t, "pg_ctl")
	uid, gid := postgrestest.IDs(t)
	write(t, start, fmt.Sprintf("#!/bin/sh\ncd / && exec %s --reuid %d --regid %d --clear-groups %s -D %s -l %s.log -W -o \"-k %s -c listen_addresses=\" start\n",
		testfs.NeedProgram(t, "setpriv", "util-linux"), uid, gid, ctl.Path, d.data, d.data, filepath.Dir(d.data)))
	if err := os.Chmod(start, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop := exec.Command(ctl.Path, "-D", d.data, "-m", "immediate", "stop")
		stop.SysProcAttr, stop.Dir = ctl.SysProcAttr, "/"
		if out, err := stop.CombinedOutput(); err != nil {
			t.Logf("stop the replica: %v: %s", err, out)
		}
		if log, _ := os.ReadFile(d.data + ".log"); t.Failed() {
			t.Logf("--- the end of the log of the replica\n%s", log[max(0, len(log)-3000):])
		}
	})
	node := func(role, designated, tree, listen, postgres string) *node {
		n := newNode(t, role, "", filepath.Join(d.dir, role))
		n.conf = n.state + ".yaml"
		write(t, n.conf, fmt.Sprintf(`node: %s
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
      - {name: %s, postgres: {%s}}
`, role, designated, listen, n.state, n.state, tree, paired, postgres))
		return n
	}
	owner, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		t.Fatal(err)
	}
	d.standby = node("standby", "secondary", d.to, listen, fmt.Sprintf(`dsn: %q, data_dir: %s, user: %s, start: [%s], socket_dir: %s`, replica, d.data, owner.Username, start, filepath.Join(d.dir, "gate")))
	d.primary = node("primary", "primary", d.from, "127.0.0.1:0", fmt.Sprintf("dsn: %q", d.server.DSN()))
	d.standby.start()
	d.primary.start()
	d.standby.up()
	d.primary.up()
	token := d.standby.must("invite", "--address", d.relay.Addr())
	d.primary.must("join", strings.TrimSpace(token[strings.LastIndex(token, " ")+1:]))
	d.linked()
	if err := d.serving.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// work starts writers, with numbers of their own. Each rests after an operation, so that
// there are instants at which nothing is written, on a busy machine, too.
func (d *databases) work(writers int, rest time.Duration) {
	d.t.Helper()
	if d.load != nil {
		d.first += len(d.load.Done())
	}
	var err error
	d.load, err = pairtest.Start(d.t.Context(), pairtest.Options{Dir: d.from, Database: d.serving,
		Seed: d.seed, Writers: writers, First: d.first, Rest: rest})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { d.load.Stop() })
}

// rest stops the writers, none of whom was interrupted.
func (d *databases) rest() {
	d.t.Helper()
	if err := d.load.Stop(); err != nil {
		d.t.Fatal(err)
	}
	d.operations += d.load.Total()
}

// still waits until the replica stands at the barrier that the standby has applied,
// while applying is paused, and returns its name.
func (d *databases) still() string {
	d.t.Helper()
	var id string
	poll(d.t, "the replica is at the applied barrier", func() error {
		g, err := d.standby.group("shop")
		if err != nil {
			return err
		}
		if g.Barriers.Applied == nil {
			return fmt.Errorf("no barrier is applied")
		}
		id = g.Barriers.Applied.ID.String()
		want := g.Barriers.Applied.Databases[paired].Position
		if want == "" {
			return fmt.Errorf("barrier %s has no position of the database: %+v", id, g.Barriers.Applied)
		}
		ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Second)
		defer cancel()
		at, err := d.replica.Replayed(ctx)
		if err != nil {
			return err
		}
		if at != want {
			return fmt.Errorf("the replica is at %s, want %s of barrier %s", at, want, id)
		}
		return nil
	})
	return id
}

// check compares the standby's files and rows, which stand still.
func (d *databases) check(demand pairtest.Demand) error {
	d.t.Helper()
	rows, err := d.replica.Rows(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	demand.Seed = d.seed
	found, err := pairtest.Check(d.to, rows, demand)
	d.checks++
	d.inFlight += found.InFlight
	d.rows += found.Rows
	return err
}

// heldWithin is how long a barrier may take that was being published when it paused.
const heldWithin = 10 * time.Second

// checkHeld pauses applying, checks and resumes. What doesn't match while all stands
// still never will; until a barrier that was being published is finished, it may.
func (d *databases) checkHeld(demand pairtest.Demand) {
	d.t.Helper()
	d.standby.must("pause")
	end := time.Now().Add(heldWithin)
	for {
		id := d.still()
		err := d.check(demand)
		if again := d.still(); err == nil && again == id {
			break
		} else if err != nil && time.Now().After(end) {
			d.t.Fatalf("barrier %s: %v", id, err)
		}
		<-time.After(100 * time.Millisecond)
	}
	d.standby.must("resume")
}

// barriers checks for that long, and at as many barriers at least.
func (d *databases) barriers(length time.Duration, least int) {
	d.t.Helper()
	seen, end := d.checks, time.Now().Add(length)
	for d.checks < seen+least || time.Now().Before(end) {
		if err := d.load.Err(); err != nil {
			d.t.Fatal(err)
		}
		demand := pairtest.Demand{First: d.first}
		if (d.checks-seen)%3 == 0 { // all that is done must get there
			demand.Least = d.load.Done()
			d.settle()
		}
		d.checkHeld(demand)
		if d.checks-seen < least { // a random moment of the next barrier
			<-time.After(time.Duration(rand.IntN(150)) * time.Millisecond)
		}
	}
}

// inFlightTries bounds the further barriers that are looked at until one has cut an
// operation in two: writers rest most of the time.
const inFlightTries = 60

// TestDatabase: files and rows stand at one instant on the standby, at every barrier
// under load, and after the primary's daemon and server were killed. And the checker
// finds it out if the replica isn't held at the gate.
func TestDatabase(t *testing.T) {
	t.Parallel()
	d := newDatabases(t)
	d.work(2, 20*time.Millisecond)
	d.standby.must("database", "seed", paired)
	begun := time.Now()
	before := d.load.Total()
	d.barriers(lasting(t, 0), 6)
	t.Logf("%d checks; %d operations, %.0f/s", d.checks, d.load.Total()-before, float64(d.load.Total()-before)/time.Since(begun).Seconds())

	// All of the primary's processes are killed; what the standby has is a barrier.
	d.primary.kill()
	d.server.Stop(syscall.SIGKILL)
	if err := d.load.Stop(); err == nil {
		t.Log("the server died between two operations")
	}
	d.operations += d.load.Total()
	d.checkHeld(pairtest.Demand{})

	// They come back, and it goes on.
	d.server.Start()
	d.primary.start()
	d.primary.up()
	d.linked()
	d.work(2, 20*time.Millisecond)
	d.barriers(0, 2)
	for tries := 0; d.inFlight == 0 && tries < inFlightTries; tries++ {
		d.barriers(0, 1)
	}
	d.rest()
	d.settle()
	d.checkHeld(pairtest.Demand{First: d.first, Least: d.load.Done()})
	t.Logf("%d operations; %d checks with %d rows, %d operations in flight", d.operations, d.checks, d.rows, d.inFlight)
	if d.inFlight == 0 {
		t.Error("no operation was in flight at any barrier")
	}
	d.bypassed()
}

// bypassed lets the replica read from the primary, past the gate, which the checker
// must find out.
func (d *databases) bypassed() {
	d.t.Helper()
	d.work(2, 20*time.Millisecond)
	d.settle()
	d.standby.must("pause")
	if err := d.replica.Exec(d.t.Context(), fmt.Sprintf("ALTER SYSTEM SET primary_conninfo = '%s'", d.server.DSN())); err != nil {
		d.t.Fatal(err)
	}
	if err := d.replica.Exec(d.t.Context(), "SELECT pg_reload_conf()"); err != nil {
		d.t.Fatal(err)
	}
	var found error
	poll(d.t, "a replica past the gate is found out", func() error {
		if found = d.check(pairtest.Demand{First: d.first}); found == nil {
			return fmt.Errorf("files and rows agree")
		}
		return nil
	})
	d.t.Logf("without the gate: %.300s", found)
	var list control.DatabaseList
	poll(d.t, "the standby says so", func() error {
		s, err := d.standby.status()
		if err != nil {
			return err
		}
		for _, c := range s.Health {
			if strings.HasPrefix(string(c.Code), "database-") {
				d.t.Logf("%s: %s", c.Code, c.Text)
				return nil
			}
		}
		return fmt.Errorf("conditions %v", s.Health)
	})
	if err := json.Unmarshal([]byte(d.standby.must("database", "status", "--json")), &list); err != nil {
		d.t.Fatal(err)
	}
	if !slices.ContainsFunc(list.Databases, func(b control.Database) bool { return b.Name == paired }) {
		d.t.Errorf("databases: %+v", list)
	}
}
