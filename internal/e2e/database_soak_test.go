package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"repld/dblog/postgres/postgrestest"
	"repld/internal/pairtest"
)

// TestDatabaseSoak holds a PostgreSQL server and a tree together for REPLD_SOAK, under one
// fault after the other, and checks at barriers all the while. It needs REPLD_SOAK.
func TestDatabaseSoak(t *testing.T) { databaseSoak(t, postgresSeat{}) }

// TestMariaDBSoak is the same with the other engine.
func TestMariaDBSoak(t *testing.T) { databaseSoak(t, mariadbSeat{}) }

// databaseFault is something bad that is over when it returns. One after which writers
// can't go on says so.
type databaseFault struct {
	name   string
	do     func(d *databases, serves, stands *seat)
	breaks bool
}

// cutFor is how long the link is cut: longer than the nodes wait before they take it for
// lost.
const cutFor = time.Minute

var databaseFaults = []databaseFault{
	{"the standby's daemon is killed", func(d *databases, _, stands *seat) { stands.restart(d) }, false},
	{"the primary's daemon is killed", func(d *databases, serves, _ *seat) { serves.restart(d) }, false},
	{"the replica is killed", func(d *databases, _, stands *seat) {
		stands.crash()
		stands.startServer()
	}, false},
	{"the replica is restarted", func(d *databases, _, stands *seat) {
		stands.run("stop")
		stands.startServer()
	}, false},
	{"the link is cut", func(d *databases, _, _ *seat) {
		d.relay.Cut()
		select { // it is the time that is wanted
		case <-time.After(cutFor):
		case <-d.t.Context().Done():
		}
		d.relay.Mend()
		d.linked()
	}, false},
	{"the primary's server is killed", func(d *databases, serves, _ *seat) {
		serves.crash()
		serves.startServer()
	}, true},
	{"the primary's server is restarted", func(d *databases, serves, _ *seat) {
		serves.run("stop")
		serves.startServer()
	}, true},
	{"the schema changes", func(d *databases, _, _ *seat) { d.alter() }, false},
}

// restart kills the daemon and starts it again.
func (s *seat) restart(d *databases) {
	s.node.kill()
	s.node.start()
	s.node.up()
	d.linked()
}

// run runs one of the seat's scripts.
func (s *seat) run(name string) {
	s.t.Helper()
	if out, err := exec.Command(filepath.Join(s.dir, name)).CombinedOutput(); err != nil {
		s.t.Fatalf("%s of %s: %v\n%s", name, s.name, err, out)
	}
}

func (s *seat) startServer() {
	s.t.Helper()
	// The children of a postmaster that was killed may hold the directory for a moment.
	poll(s.t, "the server starts", func() error {
		out, err := exec.Command(filepath.Join(s.dir, "start")).CombinedOutput()
		if err == nil {
			err = s.engine.database(s).Exec(s.t.Context(), "SELECT 1")
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// alter changes the schema while writers write.
func (d *databases) alter() {
	d.t.Helper()
	d.altered++
	table := fmt.Sprintf("soak%d", d.altered)
	for _, sql := range []string{
		"CREATE TABLE " + table + " (n INT PRIMARY KEY, t VARCHAR(100))",
		"INSERT INTO " + table + " SELECT writer * 1000000 + op * 10 + file, 'text' FROM pair0",
		"ALTER TABLE " + table + " ADD COLUMN more INT DEFAULT 7",
		"CREATE INDEX " + table + "_t ON " + table + " (t)",
		"CREATE INDEX " + table + "_op ON pair1 (op)",
		"DROP TABLE " + table,
	} {
		if err := d.serving.Exec(d.t.Context(), sql); err != nil {
			d.t.Fatalf("%s: %v", sql, err)
		}
	}
}

func databaseSoak(t *testing.T, e seatEngine) {
	if os.Getenv("REPLD_SOAK") == "" {
		t.Skip("it goes on for REPLD_SOAK: make soak-databases")
	}
	d, a, b := newSeats(t, e)
	rng := rand.New(rand.NewPCG(d.seed, 7))
	d.standby.must("database", "seed", paired)
	stop := beside(t, e, a)
	begun, end := time.Now(), time.Now().Add(lasting(t, 0))
	d.work(2, 5*time.Millisecond)
	order := rng.Perm(len(databaseFaults))
	for i := 0; i < len(order) || time.Now().Before(end); i++ {
		d.barriers(5*time.Second, 3)
		f := databaseFaults[order[i%len(order)]]
		t.Logf("%v: %d checks, %d operations; %s", time.Since(begun).Round(time.Second), d.checks, d.operations+d.load.Total(), f.name)
		f.do(d, a, b)
		if f.breaks {
			d.operations += d.load.Total()
			_ = d.load.Stop() // writers were interrupted
			d.work(2, 5*time.Millisecond)
		}
	}
	stop()
	d.rest()
	d.settle()
	d.checkHeld(pairtest.Demand{First: d.first, Least: d.load.Done()})
	if g, err := d.standby.group("shop"); err == nil && g.Barriers.Applied != nil {
		t.Logf("%v: %d checks with %d rows at barriers up to %s, %d operations, %d of them in flight at a barrier", time.Since(begun).Round(time.Second),
			d.checks, d.rows, g.Barriers.Applied.ID, d.operations, d.inFlight)
	}
	if (e == postgresSeat{}) && postgrestest.Has(t, "pg_amcheck") {
		if err := d.serving.Exec(t.Context(), "CREATE EXTENSION amcheck"); err != nil {
			t.Fatal(err)
		}
		d.settle()
		d.still()
		cmd := postgrestest.Command(t.Context(), t, "pg_amcheck", "-h", b.host, "-U", "postgres", "--heapallindexed", "postgres")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("pg_amcheck of the replica: %v\n%s", err, out)
		}
	}
}

// beside runs pgbench on a PostgreSQL server, as often as that ends with the server, until
// the caller stops it.
func beside(t *testing.T, e seatEngine, s *seat) (stop func()) {
	t.Helper()
	if (e != postgresSeat{}) || !postgrestest.Has(t, "pgbench") {
		return func() {}
	}
	ctx, cancel := context.WithCancel(t.Context())
	args := []string{"-h", s.host, "-U", "postgres", "postgres"}
	if out, err := postgrestest.Command(ctx, t, "pgbench", append([]string{"-iq", "-s", "2"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("pgbench -i: %v\n%s", err, out)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = postgrestest.Command(ctx, t, "pgbench", append([]string{"-n", "-c", "2", "-R", "200", "-T", "30"}, args...)...).Run()
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	t.Cleanup(cancel)
	return func() { cancel(); <-done }
}
