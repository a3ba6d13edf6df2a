package apply

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"repld/durable"
)

// TestScratchLost stops at each point and takes the scratch file away, or damages
// it, with the commit record in it: the standby gets to the barrier all the same.
func TestScratchLost(t *testing.T) {
	sc := newScenario(t)
	for i, stop := range []string{PointReplayed, PointPlanned, PointCommitted, PointDetached, PointAttached, PointPatched, PointSwept, PointDressed, PointRecorded, PointMerged} {
		s := sc.standby(t)
		s.reopen(nil, func(point string) error {
			if point == stop {
				return errCrash
			}
			return nil
		})
		if err := s.Step(t.Context()); !errors.Is(err, errCrash) {
			t.Fatalf("%s: the step ended with %v", stop, err)
		}
		s.stop()
		path := filepath.Join(s.base, "apply.db")
		if i%2 == 0 {
			must(t, os.Remove(path))
		} else {
			must(t, os.WriteFile(path, bytes.Repeat([]byte("damage"), 20_000), 0o600))
		}
		s.point = nil
		must(t, s.start())
		var err error
		for range 3 { // what looks foreign is repaired first
			if err = s.Step(t.Context()); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("%s, then the scratch file was lost: %v", stop, err)
		}
		t.Logf("lost at %s; %d files salvaged", stop, len(salvagedFiles(t, s)))
		same(t, sc.p, s)
		s.stop()
	}
}

// TestScratchBitsFlipped changes bytes of the scratch file while a barrier is
// committed: it is noticed, or doesn't matter, and never ends in a panic. REPLD_FAULTS is
// a number of rounds.
func TestScratchBitsFlipped(t *testing.T) {
	sc := newScenario(t)
	seed, rounds := rand.Uint64(), 6
	if n, err := strconv.Atoi(os.Getenv("REPLD_FAULTS")); err == nil {
		rounds = n
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 8))
	noticed := 0
	for round := range rounds {
		s := sc.standby(t)
		s.reopen(nil, func(point string) error {
			if point == []string{PointPlanned, PointCommitted, PointAttached}[round%3] {
				return errCrash
			}
			return nil
		})
		if err := s.Step(t.Context()); !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		s.stop()
		path := filepath.Join(s.base, "apply.db")
		b, err := os.ReadFile(path)
		must(t, err)
		for range 1 << rng.IntN(7) {
			at := rng.IntN(len(b))
			for b[at] == 0 { // elsewhere is nothing
				at = rng.IntN(len(b))
			}
			b[at] ^= 1 << rng.IntN(8)
		}
		must(t, os.WriteFile(path, b, 0o600))
		s.point = nil
		err = errors.New("not started")
		for attempt := 0; err != nil; attempt++ {
			if attempt == 6 {
				t.Fatalf("round %d: %v", round, err)
			}
			if s.Applier == nil {
				if err = s.start(); err != nil {
					s.stop()
					continue
				}
			}
			if err = s.Step(t.Context()); errors.Is(err, ErrScratch) { // as the daemon does
				s.stop()
			}
		}
		if _, err := os.Stat(path + durable.Damaged); err == nil {
			noticed++
		}
		same(t, sc.p, s)
		s.stop()
	}
	t.Logf("damage was found in %d of %d files", noticed, rounds)
}
