package redis

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// counter is a writer that counts in two databases at once, in transactions.
type counter struct {
	begun, done atomic.Int64
}

func (c *counter) run(s *server, name string, stop <-chan struct{}) error {
	conn, err := dial(s.t.Context(), address{network: "unix", at: s.socket()})
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		c.begun.Add(1)
		for _, words := range [][]string{{"MULTI"}, {"SELECT", "0"}, {"INCR", name}, {"SELECT", "5"}, {"INCR", name}} {
			if _, err := conn.do(words...); err != nil {
				return err
			}
		}
		if _, err := conn.list("EXEC"); err != nil {
			return err
		}
		c.done.Add(1)
	}
}

// count reads a counter of a database.
func (s *server) count(database int, name string) int64 {
	s.t.Helper()
	c, err := dial(s.t.Context(), address{network: "unix", at: s.socket()})
	must(s.t, err)
	defer c.Close()
	_, err = c.do("SELECT", strconv.Itoa(database))
	must(s.t, err)
	text, err := c.do("GET", name)
	must(s.t, err)
	n, err := strconv.ParseInt("0"+text, 10, 64)
	must(s.t, err)
	return n
}

// TestLoad holds the replica at barriers under load, with the gate, the replica and the link
// lost in turn: it has all that was answered before the position was asked for, nothing that
// began after that, and each transaction whole. At the end it is promoted.
func TestLoad(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	length := 2 * time.Second
	if d, err := time.ParseDuration(os.Getenv("REPLD_SOAK")); err == nil {
		length = d
	}
	seed := rand.Uint64()
	if text := os.Getenv("REPLD_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	t.Logf("REPLD_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	const writers = 3
	var counters [writers]counter
	var group sync.WaitGroup
	stop := make(chan struct{})
	for i := range counters {
		group.Go(func() {
			if err := counters[i].run(p.primary, fmt.Sprint("c", i), stop); err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	defer group.Wait()
	ended := sync.OnceFunc(func() { close(stop) })
	defer ended()
	var times []time.Duration
	checks := 0
	check := func(advance bool) {
		t.Helper()
		var least, most [writers]int64
		for i := range counters {
			least[i] = counters[i].done.Load()
		}
		point, err := p.Cut()
		must(t, err)
		for i := range counters {
			most[i] = counters[i].begun.Load()
		}
		if advance {
			times = append(times, p.Advance(point))
		} else {
			_, err := p.gate.PromoteAtEnd(t.Context())
			must(t, err)
		}
		checks++
		for i := range counters {
			a, b := p.replica.count(0, fmt.Sprint("c", i)), p.replica.count(5, fmt.Sprint("c", i))
			if a != b || a < least[i] || a > most[i] {
				t.Fatalf("check %d: writer %d is at %d and %d, want the same, from %d to %d", checks, i, a, b, least[i], most[i])
			}
		}
		if at := p.replica.offset(); advance && at != show(point.Position) {
			t.Fatalf("check %d: the replica is at %s, want %s", checks, at, show(point.Position))
		}
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		for range 10 + rng.IntN(20) {
			check(true)
		}
		switch rng.IntN(3) {
		case 0:
			p.closeGate()
			p.openGate()
		case 1:
			p.replica.kill()
			p.replica.start()
		case 2:
			must(t, p.Break())
			<-time.After(time.Duration(rng.IntN(20)) * time.Millisecond)
			p.Connect()
		}
		check(true)
		times = times[:len(times)-1] // of the fault
	}
	ended()
	group.Wait()
	last, err := p.Cut()
	must(t, err)
	p.Arrived(last)
	check(false)
	slices.Sort(times)
	t.Logf("%d transactions, %d checks; from the gate's release to the replica's being there: p50 %v, p95 %v",
		counters[0].done.Load()+counters[1].done.Load()+counters[2].done.Load(), checks, times[len(times)/2], times[len(times)*95/100])
}
