package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"repld/dblog"
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

const loadSchema = `CREATE TABLE a (w int, n bigint, xid xid8, filler text); CREATE TABLE b (w int, n bigint);
	CREATE TABLE last (w int PRIMARY KEY, n bigint)`

// startLoad begins writing; every other writer commits asynchronously.
func startLoad(t testing.TB, dsn string, writers int) *load {
	t.Helper()
	l := &load{begun: make([]atomic.Int64, writers), acked: make([]atomic.Int64, writers)}
	for w := range writers {
		l.writers.Go(func() {
			if err := l.write(dsn, w); err != nil && !l.stopping.Load() {
				l.failed.Store(&err)
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) write(dsn string, w int) error {
	ctx := context.Background()
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if w%2 == 1 {
		if _, err := c.Exec(ctx, "SET synchronous_commit = off"); err != nil {
			return err
		}
	}
	tick := time.NewTicker(2 * time.Millisecond) // the test's machine does other things too
	defer tick.Stop()
	for n := l.acked[w].Load() + 1; !l.stopping.Load(); n++ {
		<-tick.C
		l.pause.RLock()
		l.begun[w].Store(n)
		_, err := c.Exec(ctx, `WITH x AS (INSERT INTO a VALUES ($1, $2, pg_current_xact_id(), repeat('x', ($2::bigint % 700)::int))),
			y AS (INSERT INTO b VALUES ($1, $2)) INSERT INTO last VALUES ($1, $2) ON CONFLICT (w) DO UPDATE SET n = $2`, w, n)
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
func (n *noted) check(c *pgx.Conn) error {
	ctx := context.Background()
	rows, err := c.Query(ctx, `SELECT a.w, a.m, a.c, b.m, b.c, last.n, pg_is_in_recovery(), pg_last_wal_replay_lsn()::text
		FROM (SELECT w, max(n) m, count(*) c FROM a GROUP BY w) a FULL JOIN (SELECT w, max(n) m, count(*) c FROM b GROUP BY w) b USING (w)
		FULL JOIN last USING (w) ORDER BY w`)
	if err != nil {
		return err
	}
	defer rows.Close()
	seen := make([]int64, len(n.least))
	for rows.Next() {
		var w int
		var m, cnt, m2, cnt2, last int64
		var recovery bool
		var replay *string
		if err := rows.Scan(&w, &m, &cnt, &m2, &cnt2, &last, &recovery, &replay); err != nil {
			return err
		}
		if m != cnt || m != m2 || cnt != cnt2 || m != last {
			return fmt.Errorf("writer %d: a has %d rows to %d, b %d to %d, last says %d", w, cnt, m, cnt2, m2, last)
		}
		if want := LSN(n.point.Position.Offset).String(); recovery && *replay != want {
			return fmt.Errorf("the replica replayed up to %s, want exactly %s", *replay, want)
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

func percentile(list []time.Duration, q float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(len(list)-1, int(q*float64(len(list))))].Round(100 * time.Microsecond)
}
