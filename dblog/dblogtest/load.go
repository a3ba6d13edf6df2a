package dblogtest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"repld/dblog"
)

// Load writes to a primary: each of its writers numbers its transactions, and each
// transaction puts its number into two tables, a and b, and into a row of a third, last.
type Load struct {
	Begun, Acked []atomic.Int64 // the last number of each writer

	pause    sync.RWMutex // held for reading by each transaction
	stopping atomic.Bool
	writers  sync.WaitGroup
	failed   atomic.Pointer[error]
}

// StartLoad begins to write, behind transaction last of each writer: write connects and
// calls [Load.Write]. The load is stopped with the test.
func StartLoad(t testing.TB, writers int, last int64, write func(l *Load, w int) error) *Load {
	t.Helper()
	l := &Load{Begun: make([]atomic.Int64, writers), Acked: make([]atomic.Int64, writers)}
	for w := range writers {
		l.Acked[w].Store(last)
	}
	for w := range writers {
		l.writers.Go(func() {
			if err := write(l, w); err != nil && !l.stopping.Load() {
				l.failed.Store(&err)
			}
		})
	}
	t.Cleanup(l.Stop)
	return l
}

// Write commits a transaction at each tick until the load is stopped or one fails: the
// test's machine does other things too.
func (l *Load) Write(w int, every time.Duration, commit func(n int64) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := l.Acked[w].Load() + 1; !l.stopping.Load(); n++ {
		<-tick.C
		l.pause.RLock()
		l.Begun[w].Store(n)
		err := commit(n)
		if err == nil {
			l.Acked[w].Store(n)
		}
		l.pause.RUnlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Fade lets the writers end, and no failure count from now on.
func (l *Load) Fade() { l.stopping.Store(true) }

// Stop waits until the writers have ended.
func (l *Load) Stop() {
	l.Fade()
	l.writers.Wait()
}

// Total returns how many transactions were committed, none of them failed.
func (l *Load) Total(t testing.TB) (n int64) {
	t.Helper()
	if err := l.failed.Load(); err != nil {
		t.Fatalf("the load failed: %v", *err)
	}
	for _, v := range Values(l.Acked) {
		n += v
	}
	return n
}

// Values reads the numbers of the writers.
func Values(list []atomic.Int64) []int64 {
	out := make([]int64, len(list))
	for i := range list {
		out[i] = list[i].Load()
	}
	return out
}

// Noted is a position with what must, and what may, be committed at it, by writer.
type Noted struct {
	Point       dblog.Point
	Least, Most []int64
}

// Note cuts under load; exactly only while the writers stand still.
func (l *Link) Note(load *Load, exactly bool) (Noted, error) {
	return anew(func() (Noted, error) { return l.noteOnce(load, exactly) })
}

func (l *Link) noteOnce(load *Load, exactly bool) (Noted, error) {
	var n Noted
	n.Least = Values(load.Acked)
	if exactly {
		load.pause.Lock()
		n.Least = Values(load.Acked)
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), askWithin)
	defer cancel()
	r, err := (*l.source.Load()).Position(ctx)
	n.Most = Values(load.Begun)
	if exactly {
		n.Most = n.Least
		load.pause.Unlock()
	}
	if err == nil {
		n.Point, err = l.Confirm(r)
	}
	return n, err
}

// Tally is what a server has of a writer: the highest number and the count of its rows in
// tables a and b, and the number in table last.
type Tally struct {
	Writer       int
	MaxA, CountA int64
	MaxB, CountB int64
	Last         int64
}

// Check compares what a server has with what was noted.
func (n *Noted) Check(list []Tally) error {
	seen := make([]int64, len(n.Least))
	for _, s := range list {
		if s.MaxA != s.CountA || s.MaxA != s.MaxB || s.CountA != s.CountB || s.MaxA != s.Last {
			return fmt.Errorf("writer %d: a has %d rows to %d, b %d to %d, last says %d", s.Writer, s.CountA, s.MaxA, s.CountB, s.MaxB, s.Last)
		}
		seen[s.Writer] = s.MaxA
	}
	for w := range seen {
		if seen[w] < n.Least[w] || seen[w] > n.Most[w] {
			return fmt.Errorf("writer %d: the replica has %d transactions, want %d to %d", w, seen[w], n.Least[w], n.Most[w])
		}
	}
	return nil
}
