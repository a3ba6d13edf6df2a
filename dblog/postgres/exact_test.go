package postgres

import (
	"os"
	"strings"
	"testing"
	"time"

	"repld/dblog/dblogtest"
)

// TestReplicaIsExactlyAtEachBarrier cuts barriers under load and looks at the replica
// at each of them.
func TestReplicaIsExactlyAtEachBarrier(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.primary.Exec(loadSchema)
	l := startLoad(t, p.primary.DSN(), 4)
	p.Barrier()
	eventually(t, "the load has begun", func() bool { return l.Total(t) > 50 })
	pace := time.NewTicker(25 * time.Millisecond)
	defer pace.Stop()
	replica := p.replica.Connect()
	var advances, confirms []time.Duration
	for i, end := 0, time.Now().Add(soak(t)); i < 40 || time.Now().Before(end); i++ {
		<-pace.C
		begin := time.Now()
		n, err := p.Note(l, i%4 == 0)
		must(t, err)
		confirms = append(confirms, time.Since(begin))
		advances = append(advances, p.Advance(n.Point))
		if err := checkNoted(n, replica); err != nil {
			t.Fatalf("barrier %d at %s: %v", i, show(n.Point.Position), err)
		}
	}
	l.Stop()
	t.Logf("%d barriers over %d transactions: advance p50 %v, p95 %v; position and confirmation p50 %v, p95 %v", len(advances), l.Total(t),
		dblogtest.Percentile(advances, 0.5), dblogtest.Percentile(advances, 0.95), dblogtest.Percentile(confirms, 0.5), dblogtest.Percentile(confirms, 0.95))
	p.intact()
	must(t, p.gate.Check(t.Context()))
	if list := append(p.gate.Health(), p.source.Health()...); len(list) > 0 {
		t.Errorf("conditions: %v", list)
	}
}

// intact fails if the replica ever found a record that it couldn't read: it asks again
// for the segment then, and is late. The end of the log before the first stream is one.
func (p *pair) intact() {
	p.t.Helper()
	_, streamed, _ := strings.Cut(p.replica.Log(), "started streaming WAL")
	for line := range strings.Lines(streamed) {
		if strings.Contains(line, "checksum in record") || strings.Contains(line, "invalid ") || strings.Contains(line, "incorrect prev-link") {
			p.t.Errorf("the replica found: %s", line)
		}
	}
}

// soak returns how long REPLD_SOAK wants a randomised test to go on.
func soak(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("REPLD_SOAK")
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	must(t, err)
	return d
}
