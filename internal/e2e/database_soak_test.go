package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"repld/change"
	"repld/dblog/postgres/postgrestest"
	"repld/health"
	"repld/internal/pairtest"
	"repld/internal/testfs"
)

// TestDatabaseSoak holds a PostgreSQL server and a tree together for REPLD_SOAK, under one
// fault after the other, and checks at every barrier that is applied between changes of
// role. It needs REPLD_SOAK.
func TestDatabaseSoak(t *testing.T) { soakDatabase(t, postgresSeat{}) }

// TestMariaDBSoak is the same with the other engine.
func TestMariaDBSoak(t *testing.T) { soakDatabase(t, mariadbSeat{}) }

// TestRedisSoak is the same with Redis.
func TestRedisSoak(t *testing.T) { soakDatabase(t, redisSeat{log: true}) }

// The load: writers, operations of each that stay, files and rows of an operation at
// most, and the time from one operation of a writer to its next.
const (
	soakWriters = 8
	soakKeep    = 50
	soakMost    = 3
	soakEvery   = 16 * time.Millisecond
	besideRate  = 100 // transactions of pgbench a second, beside them
)

// databaseSoak is a run of the test.
type databaseSoak struct {
	*databases
	a, b   *seat
	rng    *rand.Rand
	length time.Duration
	begun  time.Time
	cgroup string // directory of the writers' control group

	mu             sync.Mutex // of what follows
	serves, stands *seat
	run            running
	lost           map[int]bool // writers whose server has lost what they had committed

	inspector     *inspector
	appliedBefore int // barriers, when it began
	counts        counts
	worked        time.Duration // of writers that have ended
	did           [3]int64      // operations, files, rows, of writers that have ended
	happened      map[string]int
	givenUp       []string // by each failover
}

// loadWord makes the writers of this program, see [pairtest.Serve].
const loadWord = "load-of-a-test"

func loadMain() int {
	if err := pairtest.Serve(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// running are the present writers.
type running struct {
	app   *pairtest.Process
	first int
	since time.Time
	over  bool // and counted
}

func (k *databaseSoak) now() running {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.run
}

func (k *databaseSoak) isLost(writer int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lost[writer]
}

// lose says that the present writers' server may lose what it has committed.
func (k *databaseSoak) lose() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for w := k.run.first; w < k.run.first+soakWriters; w++ {
		k.lost[w] = k.lost[w] || pairtest.Asynchronous(w)
	}
}

func (k *databaseSoak) demand(first int) pairtest.Demand {
	return pairtest.Demand{Seed: k.seed, Keep: soakKeep, Most: soakMost, First: first, Lost: k.isLost}
}

func soakDatabase(t *testing.T, e seatEngine) {
	if os.Getenv("REPLD_SOAK") == "" {
		t.Skip("it goes on for REPLD_SOAK: make soak-databases")
	}
	k := newDatabaseSoak(t, e)
	k.standby.must("database", "seed", paired)
	e.prepare(k.serves)
	stop := k.beside()
	k.begin()
	k.inspect()
	least := int(k.length/(5*time.Minute)) * len(databaseFaults)
	var order []int
	for i := 0; i < least || time.Since(k.begun) < k.length; i++ {
		k.goOn()
		if len(order) == 0 {
			order = k.rng.Perm(len(databaseFaults))
		}
		f := databaseFaults[order[0]]
		order = order[1:]
		t.Logf("%4.0f s: %v; %s", time.Since(k.begun).Seconds(), k.progress(), f.name)
		f.do(k)
		k.happened[f.name]++
	}
	k.goOn()
	stop()
	k.finish()
}

func newDatabaseSoak(t *testing.T, e seatEngine) *databaseSoak {
	t.Helper()
	cgroup, group := testfs.Cgroup(t)
	d, a, b := newSeats(t, e, fmt.Sprintf("{every: 200ms, quiesce: [optimistic, cgroup], cgroup: %s, freeze_max: 100ms}", group))
	k := &databaseSoak{databases: d, a: a, b: b, rng: rand.New(rand.NewPCG(d.seed, 7)), length: lasting(t, 0), begun: time.Now(), cgroup: cgroup,
		serves: a, stands: b, lost: map[int]bool{}, happened: map[string]int{}}
	k.counts.phases = map[string][]time.Duration{}
	k.counts.first, k.counts.last, k.counts.conditions = map[change.Epoch]uint64{}, map[change.Epoch]uint64{}, map[string]*raised{}
	return k
}

// begin starts writers, with numbers of their own.
func (k *databaseSoak) begin() {
	k.t.Helper()
	first := 0
	if run := k.now(); run.app != nil {
		first = run.first + soakWriters
	}
	cmd := exec.Command("/proc/self/exe", loadWord)
	var done func()
	cmd.SysProcAttr, done = testfs.InCgroup(k.t, k.cgroup)
	defer done()
	cmd.SysProcAttr.Pdeathsig = 0 // of a thread, not of the process; its input ends with the test
	cmd.Stderr = os.Stderr
	o := pairtest.Order{Dir: k.from, Seed: k.seed, Writers: soakWriters, First: first, Keep: soakKeep, Most: soakMost, Every: soakEvery}
	if paced, ok := k.serves.engine.(interface{ every() time.Duration }); ok {
		o.Every = paced.every()
	}
	k.serves.engine.order(k.serves, &o)
	app, err := pairtest.StartProcess(cmd, o)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(app.Kill)
	k.mu.Lock()
	k.run = running{app: app, first: first, since: time.Now()}
	k.mu.Unlock()
}

// ended counts what writers did that have ended, and returns it.
func (k *databaseSoak) ended() pairtest.State {
	run := k.now()
	s, _ := run.app.State() // what is known
	k.worked += time.Since(run.since)
	for j, n := range did(s) {
		k.did[j] += n
	}
	k.mu.Lock()
	k.run.over = true
	k.mu.Unlock()
	return s
}

func did(s pairtest.State) (n [3]int64) {
	for _, done := range s.Done {
		n[0] += done
	}
	n[1], n[2] = s.Files, s.Rows
	return n
}

// goOn waits while all works, until the next fault, and until some barriers were looked at.
func (k *databaseSoak) goOn() {
	k.t.Helper()
	rest := min(max(k.length/45, 2*time.Second), 14*time.Second)
	rest += rand.N(rest / 2)
	begun, least := time.Now(), 0
	k.count(func(c *counts) bool { least = c.checked + 3; return true })
	poll(k.t, "barriers are looked at", func() error {
		k.judge()
		if s, err := k.now().app.State(); err != nil || s.Failed != "" {
			k.t.Fatalf("the writers failed: %v %s", err, s.Failed)
		}
		if time.Since(begun) < rest {
			return fmt.Errorf("it goes on")
		}
		if !k.count(func(c *counts) bool { return c.checked >= least }) {
			s, err := k.primary.status()
			return errors.Join(fmt.Errorf("too few barriers: %+v", s), err)
		}
		return nil
	})
}

// progress is what was done so far.
type progress struct {
	cut                       uint64
	applied, alone, checked   int // barriers; alone: between changes of role
	whole                     int
	inFlight                  int64
	transactions, rows, files float64 // a second
}

func (k *databaseSoak) progress() (p progress) {
	n, worked := k.did, k.worked
	if run := k.now(); !run.over {
		s, _ := run.app.State() // what is known
		for j, more := range did(s) {
			n[j] += more
		}
		worked += time.Since(run.since)
	}
	per := worked.Seconds()
	p.transactions, p.files, p.rows = float64(n[0])/per, float64(n[1])/per, float64(n[2])/per
	p.applied = k.applied()
	k.count(func(c *counts) bool {
		p.cut, p.alone, p.checked, p.whole, p.inFlight = c.cut(), c.alone+p.applied-k.appliedBefore, c.checked, c.whole, c.inFlight
		return true
	})
	return p
}

// String is a column of each.
func (p progress) String() string {
	return fmt.Sprintf("barriers %4d cut %4d applied %4d checked, %3.0f transactions/s with %4.0f rows/s and %4.0f files/s", p.cut, p.applied, p.checked, p.transactions, p.rows, p.files)
}

// finish stops the writers; everything must get to the standby, and be sound.
func (k *databaseSoak) finish() {
	k.t.Helper()
	k.letRun()
	e, run := k.a.engine, k.now()
	if err := run.app.Stop(); err != nil {
		k.t.Fatal(err)
	}
	k.ended()
	p := k.progress()
	k.settle()
	d := k.demand(0)
	s, _ := run.app.State() // it has ended
	d.Least = append(make([]int64, run.first), s.Done...)
	k.checkHeld(d)
	k.count(func(c *counts) bool { c.checked++; c.whole++; return true })
	sums := e.sound(k.serves)
	if other := e.sound(k.stands); other != sums {
		k.t.Errorf("the replica: %s; the primary: %s", other, sums)
	}
	took := time.Since(k.begun).Round(time.Second)
	var faults []string
	for _, f := range databaseFaults {
		faults = append(faults, fmt.Sprintf("%s %d×", f.name, k.happened[f.name]))
	}
	k.t.Logf("faults: %s", strings.Join(faults, ", "))
	for _, text := range k.givenUp {
		k.t.Logf("failover: %s", text)
	}
	k.t.Logf("at the end: %s", sums)
	var late time.Duration
	k.count(func(c *counts) bool {
		k.t.Logf("conditions: %s", c.troubles())
		k.t.Logf("barriers: %s", c.times())
		k.t.Logf("at the barriers %d rows and %d files were compared (%d read anew); %d barriers frozen, %.1f ms each; %d with uncovered files", c.rows, c.files, c.read,
			c.frozen, float64(c.stalled.Milliseconds())/float64(max(c.frozen, 1)), c.uncovered)
		late = c.longest(health.BarrierLate)
		if c.inFlight == 0 {
			k.t.Error("no operation was in flight at any barrier")
		}
		return true
	})
	verdict := "no violation"
	if k.t.Failed() {
		verdict = "FAILED"
	}
	k.t.Logf("%s: %v, %s: %d barriers cut, %d applied, %d of them between changes of role; %d checked (%d with all files and rows read anew), %d operations in flight at them; "+
		"%.0f transactions/s of %d writers, which put and removed %.0f rows/s and %.0f files/s; %d faults; barrier-late for %.1f s at most",
		k.a.engine.name(), took, verdict, p.cut, p.applied, p.alone, p.checked, p.whole, p.inFlight, p.transactions, soakWriters, p.rows, p.files, total(k.happened), late.Seconds())
}

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// beside runs pgbench on the PostgreSQL server that serves, as often as that ends with the
// server, until the caller stops it.
func (k *databaseSoak) beside() (stop func()) {
	t := k.t
	t.Helper()
	if (k.a.engine != postgresSeat{}) || !postgrestest.Has(t, "pgbench") {
		return func() {}
	}
	ctx, cancel := context.WithCancel(t.Context())
	pgbench := func(args ...string) *exec.Cmd {
		k.mu.Lock()
		host := k.serves.host
		k.mu.Unlock()
		return postgrestest.Command(ctx, t, "pgbench", append(args, "-h", host, "-U", "postgres", "postgres")...)
	}
	if out, err := pgbench("-iq", "-s", "2").CombinedOutput(); err != nil {
		t.Fatalf("pgbench -i: %v\n%s", err, out)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = pgbench("-n", "-c", "2", "-R", fmt.Sprint(besideRate), "-T", "30").Run() // it ends with the server
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	t.Cleanup(cancel)
	return func() { cancel(); <-done }
}
