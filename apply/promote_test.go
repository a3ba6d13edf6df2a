package apply

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"repld/change"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
)

// promote ends the standby, which must be stopped, and leaves it stopped.
func (s *standby) promote(epoch change.Epoch, point func(string) error) (p Promotion, err error) {
	s.t.Helper()
	s.openParts()
	o := s.promoted()
	o.Epoch, o.Hook = epoch, point
	p, err = Promote(PromoteOptions{Options: o, LogDir: filepath.Join(s.base, "log"), Aside: filepath.Join(s.base, "aside")})
	s.stop()
	return p, err
}

// openParts opens what an applier works on.
func (s *standby) openParts() {
	s.t.Helper()
	var err error
	s.log, err = journal.Open(filepath.Join(s.base, "log"), journal.Options{})
	must(s.t, err)
	s.cat, err = catalog.Open(filepath.Join(s.base, "catalog.db"), catalog.Options{})
	must(s.t, err)
	s.vol, err = tree.OpenVolume(s.dir, tree.VolumeOptions{})
	must(s.t, err)
}

// promoted are the options of an applier over what openParts has opened.
func (s *standby) promoted() Options {
	return Options{
		Dir: s.base, Trees: []Tree{{Name: "tree", FS: s.vol, Root: s.vol.Root()}}, Log: s.log, Catalog: s.cat,
		Fetch: s.fetch, History: History{Keep: time.Hour}, Guard: 100,
	}
}

// TestPromote stops a promotion at each point, and repeats it: what lies behind the
// applied barrier is set aside once, and the catalog is the primary's from the last
// point on. Before that the standby can go on.
func TestPromote(t *testing.T) {
	points := []string{PointOpened, PointAside, PointReset, PointHanded}
	for i, stop := range append(points, "") {
		p := newPrimary(t)
		p.write("a", "a")
		s := seeded(t, p)
		before, at := s.Applied()
		p.write("a", "changed")
		p.write("b", "lost")
		lost := p.barrier()
		s.receive(p)
		s.stop()
		if stop != "" {
			crash := func(point string) error {
				if point == stop {
					return errCrash
				}
				return nil
			}
			if _, err := s.promote(2, crash); !errors.Is(err, errCrash) {
				t.Fatalf("%s: %v", stop, err)
			}
		}
		s.openParts()
		held, err := Holds(s.cat)
		must(t, err)
		s.stop()
		if want := stop != PointHanded; held != want {
			t.Fatalf("%s: a standby's catalog: found %v", stop, held)
		}
		if held {
			done, err := s.promote(2, nil)
			must(t, err)
			if done.Barrier.ID != before.ID {
				t.Errorf("%s: promoted at %s, wanted %s", stop, done.Barrier.ID, before.ID)
			}
			if behind := i < slices.Index(points, PointReset); done.SetAside > 0 != (behind || stop == "") {
				t.Errorf("%s: %d bytes were set aside", stop, done.SetAside)
			}
		}
		s.openParts()
		if s.log.End() != at || s.log.Start() != at.Offset {
			t.Errorf("%s: the log is at %d to %d, wanted %d", stop, s.log.Start(), s.log.End().Offset, at.Offset)
		}
		must(t, s.cat.View(func(tx *catalog.Tx) error {
			h, ok, err := tx.Handover()
			if err != nil || !ok || h.Barrier != before.ID || h.Position != at || h.Settled == (change.Time{}) {
				t.Errorf("%s: handed over %+v %v %v", stop, h, ok, err)
			}
			return tx.Fence(2)
		}))
		if err := s.cat.View(func(tx *catalog.Tx) error { return tx.Fence(1) }); !errors.Is(err, catalog.ErrEpoch) {
			t.Errorf("%s: a transaction of the former epoch: %v", stop, err)
		}
		s.stop()
		aside := recordsIn(t, filepath.Join(s.base, "aside"), at.Offset)
		if !slices.Contains(aside, lost.ID) {
			t.Errorf("%s: set aside are the barriers %v, wanted %s", stop, aside, lost.ID)
		}
		if got := listing(t, s.dir); len(got) != 2 {
			t.Errorf("%s: the tree holds %v", stop, got)
		}
	}
}

// recordsIn returns the barriers that a log which was set aside holds from an offset on.
func recordsIn(t *testing.T, dir string, from uint64) (ids []change.BarrierID) {
	t.Helper()
	l, err := journal.Open(dir, journal.Options{})
	must(t, err)
	defer l.Close()
	r, err := l.Reader(from)
	must(t, err)
	for r.Offset() < l.End().Offset {
		rec, _, err := r.Next()
		must(t, err)
		if b, ok := rec.(*change.Barrier); ok {
			ids = append(ids, b.ID)
		}
	}
	return ids
}

// TestPromoteGivenUp: a standby whose promotion was stopped before its end goes on.
func TestPromoteGivenUp(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "a")
	s := seeded(t, p)
	s.stop()
	_, err := s.promote(2, func(point string) error {
		if point == PointReset {
			return errCrash
		}
		return nil
	})
	if !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	must(t, s.start())
	p.write("b", "b")
	s.sync(p)
	same(t, p, s)
}

// TestPromoteUnfinished: a committed barrier is published first; a seed that isn't
// finished is no barrier to begin with.
func TestPromoteUnfinished(t *testing.T) {
	sc := newScenario(t)
	s := sc.standby(t)
	s.reopen(nil, func(point string) error {
		if point == PointCommitted {
			return errCrash
		}
		return nil
	})
	if err := s.Step(t.Context()); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	s.stop()
	done, err := s.promote(2, nil)
	must(t, err)
	if done.Barrier.ID.Seq != sc.p.seq {
		t.Errorf("promoted at %s", done.Barrier.ID)
	}
	same(t, sc.p, s)

	s = newStandby(t, sc.p)
	must(t, s.start())
	must(t, s.Seed(t.Context(), sc.base))
	s.stop()
	if _, err := s.promote(2, nil); !errors.Is(err, ErrNeedsSeed) {
		t.Errorf("without a barrier: %v", err)
	}
}

// TestPromoteRewound: the barrier that the trees were rewound to is the one.
func TestPromoteRewound(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "good")
	s := seeded(t, p)
	good, _ := s.Applied()
	p.write("a", "bad")
	s.sync(p)
	must(t, s.Rewind(t.Context(), good.ID))
	s.stop()
	done, err := s.promote(2, nil)
	must(t, err)
	if done.Barrier.ID != good.ID {
		t.Errorf("promoted at %s, wanted %s", done.Barrier.ID, good.ID)
	}
	data, err := os.ReadFile(filepath.Join(s.dir, "a"))
	must(t, err)
	if string(data) != "good" {
		t.Errorf("the tree holds %q", data)
	}
}

// TestSweep: of a standby only what it had set aside is left.
func TestSweep(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "a")
	s := seeded(t, p)
	p.write("a", "b")
	s.sync(p)
	s.put("foreign", "kept")
	p.write("foreign", "the primary's")
	s.sync(p)
	kept := salvagedFiles(t, s)
	if len(kept) != 1 {
		t.Fatalf("set aside: %v", kept)
	}
	s.stop()
	_, err := s.promote(2, nil)
	must(t, err)
	s.openParts()
	for range 2 {
		must(t, Sweep(t.Context(), s.base, s.promoted().Trees))
	}
	entries, err := os.ReadDir(s.vol.OwnPath())
	must(t, err)
	if len(entries) != 1 || entries[0].Name() != salvageDir || len(salvagedFiles(t, s)) != 1 {
		t.Errorf("left are %v", entries)
	}
	if _, err := os.Stat(filepath.Join(s.base, historyFile)); !os.IsNotExist(err) {
		t.Errorf("the history: %v", err)
	}
}

// TestEpochOfBarriers: a barrier of a higher epoch waits until the node is in it, and an
// applier of an epoch that is over can't apply any more.
func TestEpochOfBarriers(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "a")
	s := seeded(t, p)
	p.epoch = 2
	p.write("a", "of epoch 2")
	b := p.barrier()
	s.receive(p)
	step := func(epoch change.Epoch) change.BarrierID {
		s.options = func(o *Options) { o.Epoch = epoch }
		s.reopen(nil, nil)
		must(t, s.Step(t.Context()))
		cert, _ := s.Applied()
		return cert.ID
	}
	if id := step(1); id.Epoch != 1 {
		t.Errorf("in epoch 1 barrier %s was applied", id)
	}
	if id := step(2); id != b.ID {
		t.Errorf("in epoch 2 barrier %s is the applied one, wanted %s", id, b.ID)
	}
	p.write("a", "after the next promotion")
	p.barrier()
	s.receive(p)
	must(t, s.cat.Claim(3))
	if err := s.Step(t.Context()); !errors.Is(err, catalog.ErrEpoch) {
		t.Errorf("in an epoch that is over: %v", err)
	}
	s.stop()
	if err := s.start(); !errors.Is(err, catalog.ErrEpoch) {
		t.Errorf("opened in an epoch that is over: %v", err)
	}
}
