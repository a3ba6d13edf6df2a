package binlog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"repld/dblog"
	"repld/dblog/binlog/binlogtest"
)

// load writes to the primary: each of its writers numbers its transactions, and each
// transaction puts its number into two tables.
type load struct {
	begun, acked []atomic.Int64
	pause        sync.RWMutex // held for reading by each transaction
	stopping     atomic.Bool
	writers      sync.WaitGroup
	failed       atomic.Pointer[error]
}

const loadSchema = `CREATE DATABASE d; CREATE TABLE d.a (w int, n bigint, filler text, PRIMARY KEY (w, n));
	CREATE TABLE d.b (w int, n bigint, KEY (w)); CREATE TABLE d.last (w int PRIMARY KEY, n bigint)`

func startLoad(t testing.TB, s *binlogtest.Server, writers int) *load {
	t.Helper()
	return startLoadAt(t, s, writers, 0)
}

// startLoadAt begins behind transaction last of each writer.
func startLoadAt(t testing.TB, s *binlogtest.Server, writers int, last int64) *load {
	t.Helper()
	l := &load{begun: make([]atomic.Int64, writers), acked: make([]atomic.Int64, writers)}
	for w := range writers {
		l.acked[w].Store(last)
	}
	db := s.DB("d")
	for w := range writers {
		l.writers.Go(func() {
			if err := l.write(db, w); err != nil && !l.stopping.Load() {
				l.failed.Store(&err)
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) write(db *sql.DB, w int) error {
	ctx := context.Background()
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	tick := time.NewTicker(10 * time.Millisecond) // the test's machine does other things too
	defer tick.Stop()
	for n := l.acked[w].Load() + 1; !l.stopping.Load(); n++ {
		<-tick.C
		l.pause.RLock()
		l.begun[w].Store(n)
		_, err := c.ExecContext(ctx, "BEGIN; INSERT INTO a VALUES (?, ?, repeat('x', ?)); INSERT INTO b VALUES (?, ?); REPLACE INTO last VALUES (?, ?); COMMIT",
			w, n, n%700, w, n, w, n)
		if err == nil {
			l.acked[w].Store(n)
		}
		l.pause.RUnlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *load) stop() {
	l.stopping.Store(true)
	l.writers.Wait()
}

// total returns how many transactions were committed, none of them failed.
func (l *load) total(t testing.TB) (n int64) {
	t.Helper()
	if err := l.failed.Load(); err != nil {
		t.Fatalf("the load failed: %v", *err)
	}
	for _, v := range values(l.acked) {
		n += v
	}
	return n
}

func values(list []atomic.Int64) []int64 {
	out := make([]int64, len(list))
	for i := range list {
		out[i] = list[i].Load()
	}
	return out
}

// noted is a position with what must, and what may, be committed at it.
type noted struct {
	point       dblog.Point
	least, most []int64
}

// note cuts under load; exactly only while the writers stand still.
func (p *pair) note(l *load, exactly bool) (noted, error) {
	n, err := p.noteOnce(l, exactly)
	for range 3 {
		if errors.Is(err, dblog.ErrRestarted) {
			n, err = p.noteOnce(l, exactly)
		}
	}
	return n, err
}

func (p *pair) noteOnce(l *load, exactly bool) (noted, error) {
	var n noted
	n.least = values(l.acked)
	if exactly {
		l.pause.Lock()
		n.least = values(l.acked)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	r, err := p.source.Position(ctx)
	n.most = values(l.begun)
	if exactly {
		n.most = n.least
		l.pause.Unlock()
	}
	if err == nil {
		n.point, err = p.confirm(r)
	}
	return n, err
}

// check compares a server with what was noted.
func (n *noted) check(s *binlogtest.Server) error {
	rows, err := s.DB("d").Query(`SELECT a.w, a.m, a.c, b.m, b.c, last.n FROM (SELECT w, max(n) m, count(*) c FROM a GROUP BY w) a
		JOIN (SELECT w, max(n) m, count(*) c FROM b GROUP BY w) b USING (w) JOIN last USING (w) ORDER BY w`)
	if err != nil {
		return err
	}
	defer rows.Close()
	seen := make([]int64, len(n.least))
	for rows.Next() {
		var w int
		var m, cnt, m2, cnt2, last int64
		if err := rows.Scan(&w, &m, &cnt, &m2, &cnt2, &last); err != nil {
			return err
		}
		if m != cnt || m != m2 || cnt != cnt2 || m != last {
			return fmt.Errorf("writer %d: a has %d rows to %d, b %d to %d, last says %d", w, cnt, m, cnt2, m2, last)
		}
		seen[w] = m
	}
	for w := range seen {
		if seen[w] < n.least[w] || seen[w] > n.most[w] {
			return fmt.Errorf("writer %d: the replica has %d transactions, want %d to %d", w, seen[w], n.least[w], n.most[w])
		}
	}
	return rows.Err()
}

// sums returns the checksums of the load's tables.
func sums(s *binlogtest.Server) (string, error) {
	rows, err := s.DB("d").Query("CHECKSUM TABLE a, b, last EXTENDED")
	if err != nil {
		return "", err
	}
	defer rows.Close()
	text := ""
	for rows.Next() {
		var table, sum string
		if err := rows.Scan(&table, &sum); err != nil {
			return "", err
		}
		text += table + " " + sum + "\n"
	}
	return text, rows.Err()
}

func wantSums(t testing.TB, a, b *binlogtest.Server) {
	t.Helper()
	one, err := sums(a)
	must(t, err)
	two, err := sums(b)
	must(t, err)
	if one != two || one == "" {
		t.Fatalf("the tables' checksums differ:\n%s\n%s", one, two)
	}
}

func percentile(list []time.Duration, q float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(len(list)-1, int(q*float64(len(list))))].Round(100 * time.Microsecond)
}

func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
