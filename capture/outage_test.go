package capture

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"repld/health"
	"repld/watch"
)

// TestOutage: the link is down for four hours while the tree changes without pause.
// The journal reaches its limit and stays there, what is dirty is remembered by name,
// and once the standby has taken what is in the log one barrier is the sum.
func TestOutage(t *testing.T) {
	const (
		tick  = 10 * time.Second
		ticks = int(4 * time.Hour / tick)
		limit = 2 << 20
	)
	clock := &shiftClock{}
	down := false
	r := newRig(t, watch.Auto, "")
	prepare(r)
	r.clock, r.segment = clock, 256<<10
	r.options = func(o *Options) {
		o.Settings = Settings{JournalLimit: limit, RescanEvery: time.Hour}
		o.Waiting = func() bool { return down }
		o.Trees[0].AppendOnly = func(path string) bool { return path == "log" }
	}
	r.up().step()
	p := newReplica(r)
	p.asks = true // at the limit chunks carry no data
	r.barrier()
	p.follow(r.log)

	down = true
	full := uint64(0) // where the log ended when it was full
	var newest uint64
	for n := range ticks {
		r.appendTo("log", fmt.Appendf(nil, "tick %d\n", n))
		for i := range 4 {
			must(t, os.WriteFile(r.path(fmt.Sprintf("b/f%d", (n+i)%50)), noise(uint64(n*4+i), 8<<10), 0o644))
		}
		if n%100 == 0 {
			must(t, os.RemoveAll(r.path(fmt.Sprintf("made%d", n/100-1))))
			r.write(fmt.Sprintf("made%d/deep/f", n/100), fmt.Sprint(n))
		}
		clock.pass(tick)
		r.step()
		if full == 0 && r.condition(health.JournalFull) != "" {
			full, newest = r.log.End().Offset, r.c.State().Newest.ID.Seq
			t.Logf("full after %v, with %d barriers", time.Duration(n)*tick, newest)
		}
		if at := r.log.End().Offset; full != 0 && at != full {
			t.Fatalf("the full log grew from %d to %d", full, at)
		}
		if s := r.c.State(); s.Pending > 1000 {
			t.Fatalf("%d are pending", s.Pending)
		}
	}
	if full == 0 || r.log.Bytes() > limit+1<<20 {
		t.Fatalf("the log has %d bytes, the limit is %d", r.log.Bytes(), limit)
	}
	r.standing("before the link is back", health.JournalFull, health.BarrierLate)
	if s := r.c.State(); clock.Mono()-s.Oldest < 3*time.Hour {
		t.Errorf("the oldest change is %v old", clock.Mono()-s.Oldest)
	}

	p.follow(r.log) // nothing that was written has been dropped
	must(t, r.log.Free(p.at))
	down = false
	p.count()
	cut := r.barrier()
	p.follow(r.log)
	if cut.ID.Seq != newest+1 || p.kinds["Barrier"] != 1 {
		t.Errorf("barrier %v after %d, records %v", cut.ID, newest, p.kinds)
	}
	r.step()
	r.standing("after the sum")
	r.equals(cut)
}

// TestBeyondTheLimit: a full log that must go on, since the standby lacks data for what it
// holds, has the data of what is captured then, an eighth beyond the limit and no more.
func TestBeyondTheLimit(t *testing.T) {
	const limit = 1 << 20
	r := newRig(t, watch.Auto, "")
	prepare(r)
	r.options = func(o *Options) {
		o.Settings = Settings{JournalLimit: limit}
		o.Waiting = func() bool { return false }
	}
	r.up().step()
	r.barrier()
	chunks := func(name string, size int) uint64 {
		before := r.c.sink.chunks
		must(t, os.WriteFile(r.path(name), noise(uint64(len(name)), size), 0o644))
		r.barrier()
		return r.c.sink.chunks - before
	}
	chunks("large", 2*limit)
	if over := r.log.Bytes(); over < limit || over > limit+limit/8 {
		t.Fatalf("the log holds %d bytes, its limit is %d", over, limit)
	}
	if n := chunks("changed again", 8<<10); n != 1 {
		t.Errorf("%d chunks of what was captured then have data, want 1", n)
	}
	chunks("more", limit)
	if n := chunks("and more", 9<<10); n != 0 {
		t.Errorf("%d chunks have data far beyond the limit", n)
	}
	if over := r.log.Bytes(); over > limit+limit/4 {
		t.Errorf("the log holds %d bytes, its limit is %d", over, limit)
	}
}

// storm is a watcher that tells of ever new names.
type storm struct {
	watch.Watcher
	names int // at each drain
	told  int
}

func (s *storm) Drain(ctx context.Context, set *watch.Set) (watch.Sync, error) {
	sync, err := s.Watcher.Drain(ctx, set)
	for range s.names {
		s.told++
		set.Add(watch.Key{Dir: fmt.Sprintf("d%d", s.told/1000), Name: fmt.Sprint("n", s.told)}, watch.Content|watch.Entry, sync.At)
	}
	return sync, err
}

// TestOutageInBoundedMemory: of however many names, so much is remembered that all
// of them are looked at.
func TestOutageInBoundedMemory(t *testing.T) {
	var events *storm
	down := false
	r := newRig(t, watch.Auto, "")
	prepare(r)
	r.options = func(o *Options) {
		o.JournalLimit = 1
		o.Waiting = func() bool { return down }
	}
	r.wrap = func(w watch.Watcher) watch.Watcher { events = &storm{Watcher: w}; return events }
	r.up()
	r.barrier()
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	down, events.names = true, 50_000
	for range 10 {
		r.step()
	}
	events.names = 0
	r.write("a/f", "written during the outage")
	r.step()
	pending, took := r.c.State().Pending, int64(heap()-before)
	t.Logf("%d names told, %d items remembered in %d bytes", events.told, pending, took)
	if pending > 200_000 || took > 64<<20 {
		t.Errorf("%d items take %d bytes", pending, took)
	}
	down = false
	r.equals(r.barrier())
}
