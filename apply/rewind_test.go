package apply

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"repld/change"
	"repld/tree"
)

// noFetch is a peer that has nothing.
type noFetch struct{}

func (noFetch) Fetch(_ context.Context, digests []change.Digest, each func(change.Digest, []byte) error) error {
	for _, d := range digests {
		if err := each(d, nil); err != nil {
			return err
		}
	}
	return nil
}

// equal compares a listing with a recorded one.
func equal(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got[path] != want[path] {
			t.Errorf("%s: %q: got  %s\nwant %s", what, path, got[path], want[path])
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[path]; !ok {
			t.Errorf("%s: %q shouldn't be there: %s", what, path, got[path])
		}
	}
	t.FailNow()
}

// rounds is a standby with a record of every barrier that it applied.
type rounds struct {
	t    *testing.T
	r    *rand.Rand
	p    *primary
	s    *standby
	m    *mess
	seen map[change.BarrierID]map[string]string
	now  change.BarrierID // the newest that was applied
}

func newRounds(t *testing.T, seed uint64) *rounds {
	t.Logf("-random.seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	p := newPrimary(t)
	ro := &rounds{t: t, r: r, p: p, m: &mess{t: t, r: r, dir: p.dir}, seen: map[change.BarrierID]map[string]string{}}
	for range 50 {
		ro.m.step()
	}
	s := newStandby(t, p)
	s.redo = 50_000
	must(t, s.start())
	ro.s = s
	p.barrier()
	must(t, s.Seed(t.Context(), p.manifest()))
	ro.barrier(1)
	s.fetch = noFetch{}
	s.reopen(nil, nil)
	return ro
}

// barrier does something and applies it.
func (ro *rounds) barrier(steps int) {
	ro.t.Helper()
	for range steps {
		ro.m.step()
	}
	ro.now = ro.p.barrier().ID
	ro.s.receive(ro.p)
	must(ro.t, ro.s.Step(ro.t.Context()))
	ro.seen[ro.now] = listing(ro.t, ro.p.dir)
	ro.at(ro.now)
}

// at wants the standby to be at a barrier.
func (ro *rounds) at(id change.BarrierID) {
	ro.t.Helper()
	equal(ro.t, "at "+id.String(), listing(ro.t, ro.s.dir), ro.seen[id])
	if cert, _ := ro.s.Applied(); cert.ID != id {
		ro.t.Fatalf("applied is %s, want %s", cert.ID, id)
	}
	noForeign(ro.t, ro.s)
}

// crash makes the next work stop at a random operation or point; the standby is
// reopened afterwards.
func (ro *rounds) crash(work func() error) {
	ro.t.Helper()
	c := &crasher{n: 1 + ro.r.IntN(120), armed: true}
	points := []string{PointReplayed, PointStaged, PointKept, PointPlanned, PointSynced, PointCommitted, PointDetached, PointAttached,
		PointPatched, PointSwept, PointDressed, PointRecorded, PointMerged, PointApplied}
	point := points[ro.r.IntN(len(points))]
	byPoint := ro.r.IntN(2) == 0
	ro.s.stop()
	if byPoint {
		ro.s.hook, ro.s.point = nil, func(at string) error {
			if at == point {
				return errCrash
			}
			return nil
		}
	} else {
		ro.s.hook, ro.s.point = c.hook, nil
	}
	err := ro.s.start()
	if err == nil {
		err = work()
	}
	if err != nil && !errors.Is(err, errCrash) {
		ro.t.Fatalf("crash at %q or operation %d: %v", point, c.n, err)
	}
	ro.s.reopen(nil, nil)
}

// rewind goes to a barrier, with or without a stop on the way.
func (ro *rounds) rewind(id change.BarrierID) {
	ro.t.Helper()
	if ro.r.IntN(2) == 0 {
		ro.crash(func() error { return ro.s.Rewind(ro.t.Context(), id) })
	}
	must(ro.t, ro.s.Rewind(ro.t.Context(), id))
	ro.at(id)
	if !ro.s.Paused() {
		ro.t.Fatal("not paused after a rewind")
	}
}

// TestRewind: random changes; then from any barrier to any other and forward
// again, with stops at any place and without a peer.
func TestRewind(t *testing.T) {
	seed := *randomSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	ro := newRounds(t, seed)
	n := 12
	if raceEnabled {
		n = 4
	}
	for i := range n {
		for range 1 + ro.r.IntN(4) {
			ro.barrier(1 + ro.r.IntN(25))
		}
		retained := ro.s.Retained()
		if len(retained) == 0 {
			t.Fatal("nothing is retained")
		}
		for range 1 + ro.r.IntN(3) {
			ro.rewind(retained[ro.r.IntN(len(retained))].ID)
			if ro.r.IntN(3) == 0 {
				ro.s.reopen(nil, nil)
			}
			if ro.r.IntN(3) == 0 { // the log goes on meanwhile
				ro.m.step()
				ro.now = ro.p.barrier().ID
				ro.seen[ro.now] = listing(t, ro.p.dir)
				ro.s.receive(ro.p)
			}
			must(t, ro.s.Step(t.Context())) // paused: nothing
			report, err := ro.s.Verify(t.Context(), VerifyOptions{})
			must(t, err)
			if report.Count > 0 {
				t.Fatalf("verify: %+v", report.Differences)
			}
		}
		must(t, ro.s.Resume(false))
		if ro.r.IntN(2) == 0 {
			ro.crash(func() error { return ro.s.Step(t.Context()) })
		}
		must(t, ro.s.Step(t.Context()))
		ro.at(ro.now)
		if ro.r.IntN(2) == 0 {
			ro.tend()
		}
		t.Logf("round %d: %d barriers retained, %d bytes", i, len(ro.s.Retained()), ro.s.HistoryBytes())
	}
	ro.everywhere()
}

// tend does all that is due, with or without a stop on the way.
func (ro *rounds) tend() {
	ro.t.Helper()
	if ro.r.IntN(2) == 0 {
		ro.crash(func() error {
			_, err := ro.s.Tend(ro.t.Context())
			return err
		})
	}
	for more := true; more; {
		var err error
		more, err = ro.s.Tend(ro.t.Context())
		must(ro.t, err)
	}
}

// everywhere goes to every retained barrier and back.
func (ro *rounds) everywhere() {
	ro.t.Helper()
	for _, c := range ro.s.Retained() {
		must(ro.t, ro.s.Rewind(ro.t.Context(), c.ID))
		ro.at(c.ID)
	}
	must(ro.t, ro.s.Resume(false))
	must(ro.t, ro.s.Step(ro.t.Context()))
	ro.at(ro.now)
}

// TestTwoTrees: the trees of a group go back together, each with its own history
// and staging.
func TestTwoTrees(t *testing.T) {
	p := newPrimary(t)
	p.other = filepath.Join(filepath.Dir(p.dir), "second")
	must(t, os.Mkdir(p.other, 0o755))
	seed := *randomSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-random.seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	here, there := &mess{t: t, r: r, dir: p.dir}, &mess{t: t, r: r, dir: p.other}
	s := newStandby(t, p)
	copied := filepath.Join(filepath.Dir(s.dir), "second")
	must(t, os.Mkdir(copied, 0o755))
	s.redo = 50_000
	s.options = func(o *Options) {
		v, err := tree.OpenVolume(copied, tree.VolumeOptions{})
		must(t, err)
		t.Cleanup(func() { v.Close() })
		o.Trees = append(o.Trees, Tree{Name: "other", FS: v, Root: v.Root()})
	}
	must(t, s.start())
	p.barrier()
	must(t, s.Seed(t.Context(), p.manifest()))
	type state struct{ here, there map[string]string }
	seen := map[change.BarrierID]state{}
	var newest change.BarrierID
	for range 6 {
		for range 20 {
			here.step()
			there.step()
		}
		p.barrier()
		s.receive(p)
		must(t, s.Step(t.Context()))
		cert, _ := s.Applied()
		newest = cert.ID
		seen[newest] = state{listing(t, p.dir), listing(t, p.other)}
	}
	s.fetch = noFetch{}
	s.reopen(nil, nil)
	at := func(id change.BarrierID) {
		t.Helper()
		equal(t, id.String(), listing(t, s.dir), seen[id].here)
		equal(t, id.String()+" second", listing(t, copied), seen[id].there)
	}
	at(newest)
	for _, c := range s.Retained() {
		must(t, s.Rewind(t.Context(), c.ID))
		at(c.ID)
		to := t.TempDir()
		_, err := s.Restore(t.Context(), "other", newest, to)
		must(t, err)
		equal(t, "restored", listing(t, filepath.Join(to, "other")), seen[newest].there)
	}
	must(t, s.Resume(false))
	must(t, s.Step(t.Context()))
	at(newest)
	noForeign(t, s)
}
