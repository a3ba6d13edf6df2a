package binlog

import (
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"repld/dblog/binlog/binlogtest"
	"repld/dblog/dblogtest"
)

// TestFaults goes on through deaths of either server, of the gate and of the link, while
// files are begun often, and has the replica at exactly each barrier.
func TestFaults(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		rng := seeded(t)
		p := newPair(t, k, "max-binlog-size=262144")
		p.primary.Exec(loadSchema)
		p.Barrier()
		l := startLoad(t, p.primary, 4)
		faults := []struct {
			name string
			do   func()
		}{
			{"nothing", func() {}},
			{"the gate is killed", func() { p.closeGate(); p.openGate() }},
			{"the replica is killed", func() { p.replica.Stop(syscall.SIGKILL); p.replica.Start() }},
			{"the replica is restarted", func() { p.replica.Stop(syscall.SIGTERM); p.replica.Start() }},
			{"the link is cut", func() { must(t, p.Break()); p.Connect() }},
			{"our half on the primary is restarted", func() {
				must(t, p.Break())
				p.source.Close()
				p.newSource(p.primary)
				p.Connect()
			}},
			{"another file begins", func() { p.primary.Exec("FLUSH BINARY LOGS") }},
			{"another file begins again", func() { p.primary.Exec("FLUSH BINARY LOGS") }},
			{"the primary is restarted", func() { p.restart(syscall.SIGTERM, &l) }},
			{"the primary is killed", func() { p.restart(syscall.SIGKILL, &l) }},
			{"the link is cut for long", func() {
				must(t, p.Break())
				was := l.Total(t)
				eventually(t, "the primary goes on alone", func() bool { return l.Total(t) > was+60 })
				p.Connect()
			}},
		}
		rng.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		var took []time.Duration
		for _, f := range faults {
			was := l.Total(t)
			eventually(t, "the load goes on", func() bool { return l.Total(t) > was+20 })
			f.do()
			for range 4 {
				n, err := p.Note(l, rng.IntN(2) == 0)
				must(t, err)
				took = append(took, p.Advance(n.Point))
				if err := checkNoted(n, p.replica); err != nil {
					t.Fatalf("after %s, at %s: %v", f.name, show(n.Point.Position), err)
				}
			}
		}
		l.Stop()
		last := p.Barrier()
		wantSums(t, p.primary, p.replica)
		must(t, p.gate.Check(t.Context()))
		t.Logf("%d barriers, to %s; from the gate to the replica %v (median), %v (95 %%)", len(took), show(last.Position), dblogtest.Percentile(took, 0.5), dblogtest.Percentile(took, 0.95))
		if last.Position.Chapter < 5 { // each restart begins a file, too
			t.Errorf("the last barrier is at %s, want some files more", show(last.Position))
		}
		if n := len(p.Spool.Chapters()); n > 4 {
			t.Errorf("the spool keeps %d files of %d", n, last.Position.Chapter)
		}
	})
}

// restart ends the primary and starts it again, with another load that goes on where
// the one before was.
func (p *pair) restart(sig syscall.Signal, l **dblogtest.Load) {
	p.t.Helper()
	(*l).Fade()
	p.primary.Stop(sig)
	(*l).Stop()
	p.primary.Start()
	var last int64
	for _, n := range dblogtest.Values((*l).Begun) {
		last = max(last, n)
	}
	// The writers are all at different numbers: from now on at the same.
	p.primary.Exec(fmt.Sprintf("DELETE FROM d.a; DELETE FROM d.b; DELETE FROM d.last; ALTER TABLE d.a AUTO_INCREMENT = %d", last+1))
	*l = startLoad(p.t, p.primary, 4)
}

// TestLargeTransactions have events that don't fit into one packet.
func TestLargeTransactions(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		p := newPair(t, k, "max-allowed-packet=67108864", "binlog-checksum=NONE")
		p.primary.Exec("CREATE DATABASE d; CREATE TABLE d.a (n int PRIMARY KEY, b longblob); CREATE TABLE d.b (n int); CREATE TABLE d.last (n int)")
		p.primary.Exec("INSERT INTO d.a VALUES (1, repeat('x', 20000000)), (2, repeat('y', 100000)), (3, '')")
		before := p.Barrier()
		wantSums(t, p.primary, p.replica)
		must(t, p.Break())
		p.primary.Exec("DELETE FROM d.a WHERE n = 1")
		p.Connect()
		p.Barrier()
		wantSums(t, p.primary, p.replica)
		if p.gate.Position() == before.Position {
			t.Error("nothing was written")
		}
		p.primary.Exec("SET GLOBAL binlog_checksum = CRC32; DELETE FROM d.a WHERE n = 2")
		p.Barrier()
		wantSums(t, p.primary, p.replica)
	})
}

// TestHeartbeats keep the connection of a replica that has nothing to read, also after
// another file began.
func TestHeartbeats(t *testing.T) {
	forEach(t, func(t *testing.T, k binlogtest.Kind) {
		p := newPair(t, k, "performance-schema=ON")
		change, count := "CHANGE MASTER TO MASTER_HEARTBEAT_PERIOD = 0.05", "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Slave_received_heartbeats'"
		if k == binlogtest.MySQL {
			change, count = "CHANGE REPLICATION SOURCE TO SOURCE_HEARTBEAT_PERIOD = 0.05", "SELECT count_received_heartbeats FROM performance_schema.replication_connection_status"
		}
		p.replica.Exec("STOP REPLICA; " + change + "; START REPLICA")
		for _, sql := range []string{"CREATE DATABASE d", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS; CREATE TABLE d.a (n int)"} {
			p.primary.Exec(sql)
			p.Barrier()
			p.gate.mu.Lock()
			session := p.gate.session
			p.gate.mu.Unlock()
			begun, err := strconv.Atoi(p.replica.Value(count))
			must(t, err)
			eventually(t, "heartbeats come", func() bool {
				n, err := strconv.Atoi(p.replica.Value(count))
				return err == nil && n > begun+5
			})
			p.gate.mu.Lock()
			now := p.gate.session
			p.gate.mu.Unlock()
			if session == nil || now != session {
				t.Errorf("after %q the replica had to connect again", sql)
			}
		}
		must(t, p.gate.Check(t.Context()))
	})
}
