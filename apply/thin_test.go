package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"repld/apply/history"
	"repld/change"
	"repld/durable/boltproof"
)

// handClock is moved by hand.
type handClock struct{ mono time.Duration }

func (c *handClock) Now() time.Time      { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(c.mono) }
func (c *handClock) Mono() time.Duration { return c.mono }

func (ro *rounds) keepBy(clock *handClock, h History) {
	ro.s.options = func(o *Options) { o.Clock, o.History = clock, h }
	ro.s.reopen(nil, nil)
}

// keptFiles returns the number of files in the history, and what they take.
func keptFiles(t *testing.T, s *standby) (n int, bytes int64) {
	t.Helper()
	must(t, filepath.Walk(filepath.Join(s.vol.OwnPath(), keepDir), func(_ string, info os.FileInfo, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && info.Mode().IsRegular() {
			n++
			bytes += info.Size()
		}
		return err
	}))
	return n, bytes
}

// TestThinning: barriers get rarer with age, what is left can be gone back to, and
// nothing stays that nobody needs.
func TestThinning(t *testing.T) {
	ro := newRounds(t, 5)
	clock := &handClock{}
	ro.keepBy(clock, History{Keep: 2 * time.Hour, Every: []Thinning{{Within: time.Minute}, {Within: time.Hour, Apart: time.Minute}, {Within: 2 * time.Hour, Apart: 10 * time.Minute}}})
	for range 40 {
		clock.mono += 10 * time.Second
		ro.barrier(1 + ro.r.IntN(8))
		if ro.r.IntN(3) == 0 {
			ro.tend()
		}
	}
	ro.tend()
	n := len(ro.s.Retained())
	if n < 8 || n > 16 { // six of the last minute, one of each before
		t.Errorf("%d barriers are retained of 400 s", n)
	}
	ro.everywhere()
	clock.mono += 30 * time.Minute // going there and back is a step like any other
	ro.s.reopen(nil, nil)
	ro.everywhere()
	clock.mono += 3 * time.Hour
	ro.barrier(3)
	ro.tend()
	if n := len(ro.s.Retained()); n != 1 {
		t.Errorf("%d barriers are retained three hours later, want the one before", n)
	}
	ro.everywhere()
	clock.mono += 3 * time.Hour
	ro.tend()
	if n, _ := keptFiles(t, ro.s); n > 0 || len(ro.s.Retained()) > 0 {
		t.Errorf("%d files are left of a history that has ended", n)
	}
	ro.barrier(3)
	ro.everywhere()
}

// TestHistoryLimit: the oldest go first, and the limit holds.
func TestHistoryLimit(t *testing.T) {
	ro := newRounds(t, 6)
	const limit = 2 << 20
	ro.keepBy(&handClock{}, History{Keep: time.Hour, Limit: limit})
	var oldest change.BarrierID
	for range 14 {
		ro.barrier(20)
		ro.tend()
		if got := ro.s.HistoryBytes(); got > limit {
			t.Fatalf("the history takes %d bytes, the limit is %d", got, limit)
		}
		retained := ro.s.Retained()
		if len(retained) > 0 {
			if last := retained[len(retained)-1].ID; last.Compare(oldest) < 0 {
				t.Errorf("%s is back", last)
			} else {
				oldest = last
			}
		}
	}
	if _, bytes := keptFiles(t, ro.s); bytes > 2*limit {
		t.Errorf("%d bytes are on disk", bytes)
	}
	ro.everywhere()
}

// TestHistorySmall: what was patched or changed a little costs little.
func TestHistorySmall(t *testing.T) {
	p := newPrimary(t)
	p.write("patched", string(noise(1, 4<<20)))
	p.write("appended", string(noise(2, 1<<20)))
	s := newStandby(t, p)
	s.redo = 2 << 20
	must(t, s.start())
	seed(t, p, s)
	at := s.HistoryBytes()
	for i := range 10 {
		patch(t, p.at("patched"), int64(i)<<18, []byte(fmt.Sprint("patch ", i)))
		info, err := os.Stat(p.at("appended"))
		must(t, err)
		patch(t, p.at("appended"), info.Size(), noise(uint64(i), 100))
		s.sync(p)
	}
	if took := s.HistoryBytes() - at; took > 10*600<<10 {
		t.Errorf("ten small changes take %d bytes", took)
	}
}

// TestHistoryEnds: a history that isn't wanted any more goes, and another begins.
func TestHistoryEnds(t *testing.T) {
	ro := newRounds(t, 8)
	ro.barrier(20)
	ro.barrier(20)
	must(t, ro.s.Rewind(t.Context(), ro.s.Retained()[0].ID))
	if err := ro.s.SetLimits(t.Context(), Limits{Guard: 100}); err == nil {
		t.Error("the way forward was thrown away")
	}
	must(t, ro.s.Resume(false))
	must(t, ro.s.Step(t.Context()))
	must(t, ro.s.SetLimits(t.Context(), Limits{Guard: 100}))
	if n, _ := keptFiles(t, ro.s); n > 0 || len(ro.s.Retained()) > 0 {
		t.Errorf("%d files are left", n)
	}
	ro.barrier(5)
	if err := ro.s.Rewind(t.Context(), ro.now); err == nil {
		t.Error("rewound without a history")
	}
	must(t, ro.s.SetLimits(t.Context(), Limits{Guard: 100, History: History{Keep: time.Hour}}))
	ro.barrier(5)
	ro.barrier(5)
	if n := len(ro.s.Retained()); n != 2 {
		t.Errorf("%d barriers are retained", n)
	}
	ro.everywhere()
	// One that is lost or damaged begins anew.
	ro.s.stop()
	must(t, os.WriteFile(filepath.Join(ro.s.base, historyFile), []byte("nonsense"), 0o600))
	must(t, ro.s.start())
	if len(ro.s.Retained()) > 0 {
		t.Error("a damaged history is offered")
	}
	if n, _ := keptFiles(t, ro.s); n > 0 {
		t.Errorf("%d files are left of a lost history", n)
	}
	ro.barrier(5)
	ro.everywhere()
}

// TestTendLetsBarriersInBetween: what is due at once may be much, where a limit was
// lowered. No barrier waits until all of it is done.
func TestTendLetsBarriersInBetween(t *testing.T) {
	defer func(n int) { tendBarriers = n }(tendBarriers)
	tendBarriers = 2
	ro := newRounds(t, 10)
	clock := &handClock{}
	ro.keepBy(clock, History{Keep: time.Minute})
	for range 6 {
		ro.barrier(3)
	}
	clock.mono += time.Hour
	for _, want := range []int{4, 2} {
		if next := ro.s.tend(t.Context()); next != tendAgain || len(ro.s.Retained()) != want {
			t.Errorf("%d barriers are left, want %d; tended again in %v", len(ro.s.Retained()), want, next)
		}
	}
	ro.tend()
	if next := ro.s.tend(t.Context()); next != tendEvery {
		t.Errorf("tended again in %v with nothing to do", next)
	}
}

// TestHistoryDamaged: a history that turns out to be damaged begins anew; barriers
// go on being applied.
func TestHistoryDamaged(t *testing.T) {
	ro := newRounds(t, 9)
	clock := &handClock{}
	ro.keepBy(clock, History{Keep: time.Hour, Every: []Thinning{{Within: time.Hour, Apart: 10 * time.Minute}}})
	for range 4 {
		ro.barrier(20)
	}
	ro.s.stop()
	// As if its values had been written like this: flipped bits are found at the start.
	db, err := bbolt.Open(filepath.Join(ro.s.base, historyFile), 0o600, nil)
	must(t, err)
	must(t, boltproof.Update(db, func(tx *boltproof.Tx) error {
		b := tx.Bucket([]byte("nodes"))
		return b.ForEach(func(k, _ []byte) error { return b.Put(k, []byte{9}) })
	}))
	must(t, db.Close())
	must(t, ro.s.start())
	if err := ro.s.Rewind(t.Context(), ro.s.Retained()[0].ID); !errors.Is(err, history.ErrDamaged) || ro.s.Paused() {
		t.Errorf("rewound by a damaged history: %v", err)
	}
	ro.at(ro.now)
	ro.barrier(5)
	for more := true; more; {
		more, err = ro.s.Tend(t.Context())
		must(t, err)
	}
	if n := len(ro.s.Retained()); n > 0 {
		t.Errorf("%d barriers of a damaged history are offered", n)
	}
	ro.barrier(5)
	ro.barrier(5)
	ro.everywhere()
}
