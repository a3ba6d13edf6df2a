package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"repld/internal/pairtest"
)

// databaseFault is something bad that is over when it returns.
type databaseFault struct {
	name string
	do   func(k *databaseSoak)
}

// cutFor is how long the link is cut at most, and in a long soak: longer than the nodes
// wait before they take it for lost.
const cutFor = time.Minute

var databaseFaults = []databaseFault{
	{"the standby's daemon is killed", func(k *databaseSoak) { k.stands.restart(k.databases) }},
	{"the primary's daemon is killed", func(k *databaseSoak) { k.serves.restart(k.databases) }},
	{"the replica is killed", func(k *databaseSoak) {
		k.stands.crash()
		k.stands.startServer()
	}},
	{"the replica is restarted", func(k *databaseSoak) {
		k.stands.run("stop")
		k.stands.startServer()
	}},
	{"the link is cut", func(k *databaseSoak) {
		k.relay.Cut()
		select { // it is the time that is wanted
		case <-time.After(min(cutFor, k.length/10)):
		case <-k.t.Context().Done():
		}
		k.relay.Mend()
		k.linked()
	}},
	{"the primary's server is killed", func(k *databaseSoak) {
		k.interrupted(func() {
			k.lose()
			k.serves.crash()
		})
	}},
	{"the primary's server is restarted", func(k *databaseSoak) { k.interrupted(func() { k.serves.run("stop") }) }},
	{"the schema changes", func(k *databaseSoak) { k.alter(k.a.engine) }},
	{"all of the primary's processes are killed, failover, rejoin", (*databaseSoak).failover},
	{"cutover", (*databaseSoak).cutover},
}

// interrupted takes the primary's server away from its writers; others come.
func (k *databaseSoak) interrupted(away func()) {
	k.t.Helper()
	away()
	k.now().app.Stop() // writers were interrupted
	k.ended()
	k.serves.startServer()
	if k.serves.engine.seeds() {
		poll(k.t, "the replica is made anew", func() error {
			if r := k.stands.node.ctl("database", "seed", paired); r.code != 0 {
				return fmt.Errorf("exit %d: %s", r.code, r.stderr)
			}
			return nil
		})
	}
	k.begin()
}

// turn follows a change of roles, while nobody looks at barriers and nobody writes.
func (k *databaseSoak) turn() {
	k.t.Helper()
	k.mu.Lock()
	k.serves, k.stands = k.stands, k.serves
	k.mu.Unlock()
	k.seated(k.serves, k.stands)
}

// cutover loses nothing.
func (k *databaseSoak) cutover() {
	k.t.Helper()
	k.letRun()
	run := k.now()
	if err := run.app.Stop(); err != nil {
		k.t.Fatal(err)
	}
	s := k.ended()
	poll(k.t, "it changes over, once the standby follows", func() error {
		if r := k.primary.ctl("cutover", "--yes"); r.code != 0 {
			return fmt.Errorf("exit %d: %s", r.code, r.stderr)
		}
		return nil
	})
	k.turn()
	d := k.demand(0)
	d.Least = append(make([]int64, run.first), s.Done...)
	k.promoted(d)
	k.begin()
	k.inspect()
}

// promoted checks files and rows of the node that serves now, and that its server is
// sound.
func (k *databaseSoak) promoted(d pairtest.Demand) pairtest.Found {
	k.t.Helper()
	rows, err := k.serving.Rows(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	found, err := pairtest.Check(k.from, rows, d)
	if err != nil {
		k.t.Fatalf("after a promotion: %v", err)
	}
	k.serves.engine.sound(k.serves)
	return found
}

// failover kills daemon, server and writers of the primary at any moment, promotes the
// standby at its barrier, and has the other one rejoin with a new replica.
func (k *databaseSoak) failover() {
	k.t.Helper()
	k.letRun()
	<-time.After(rand.N(time.Second)) // a random moment
	old, run := k.serves, k.now()
	k.ended()
	old.node.kill()
	run.app.Kill()
	old.crash()
	poll(k.t, "the link is seen to be down", func() error {
		s, err := k.stands.node.status()
		if err == nil && s.Peer.Link == "up" {
			err = fmt.Errorf("the link is %s", s.Peer.Link)
		}
		return err
	})
	k.stands.node.must("failover", "--peer-is-down", "--yes")
	k.turn()
	found := k.promoted(k.demand(0))
	k.givenUp = append(k.givenUp, k.toll(run, found))

	old.node.start()
	old.node.up()
	k.linked()
	poll(k.t, "it rejoins, once it knows that it doesn't serve any more", func() error {
		if r := old.node.ctl("rejoin", "--yes"); r.code != 0 {
			return fmt.Errorf("exit %d: %s", r.code, r.stderr)
		}
		return nil
	})
	for _, dir := range old.engine.kept(old) {
		if err := os.RemoveAll(dir); err != nil {
			k.t.Fatal(err)
		}
	}
	k.begin()
	k.inspect()
}

// toll says what a failover has given up.
func (k *databaseSoak) toll(run running, found pairtest.Found) string {
	s, _ := run.app.State() // it has ended
	lost, writers := int64(0), 0
	for i, done := range s.Done {
		newest := int64(0)
		if w := run.first + i; w < len(found.Newest) {
			newest = found.Newest[w]
		}
		if newest < done {
			lost += done - newest
			writers++
		}
	}
	return fmt.Sprintf("of %d writers %d had %d operations behind the barrier, which are given up with their files and rows; in flight at the barrier %d; nothing else is missing", soakWriters, writers, lost, found.InFlight)
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
func (d *databases) alter(e seatEngine) {
	d.t.Helper()
	d.altered++
	if other, ok := e.(interface{ alter(d *databases) }); ok {
		other.alter(d)
		return
	}
	table := fmt.Sprintf("soak%d", d.altered)
	for _, sql := range []string{
		"CREATE TABLE " + table + " (n INT PRIMARY KEY, t VARCHAR(100))",
		"INSERT INTO " + table + " SELECT writer * 1000000 + op * 10 + file, 'text' FROM pair0",
		"ALTER TABLE " + table + " ADD COLUMN more INT DEFAULT 7",
		"CREATE INDEX " + table + "_t ON " + table + " (t)",
		"CREATE INDEX " + table + "_op ON pair1 (op)",
		"DROP TABLE " + table,
	} {
		if use := e.schema(); use != "" {
			sql = use + "; " + sql
		}
		if err := d.serving.Exec(d.t.Context(), sql); err != nil {
			d.t.Fatalf("%s: %v", sql, err)
		}
	}
}
