package apply

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"repld/change"
)

// A barrier whose databases' streams aren't there is passed over, whatever brought the
// overlay there.
func TestIncompleteBarriersAreNotApplied(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "first")
	s := newStandby(t, p)
	complete := func(change.BarrierID) bool { return true }
	s.options = func(o *Options) { o.Complete = func(c change.Certificate) bool { return complete(c.ID) } }
	must(t, s.start())
	seed(t, p, s)
	applied := func() change.BarrierID { c, _ := s.Applied(); return c.ID }
	none := applied()

	p.write("a", "second")
	second := p.barrier()
	p.write("a", "third")
	third := p.barrier()
	s.receive(p)
	complete = func(id change.BarrierID) bool { return id.Compare(none) <= 0 }
	must(t, s.Step(t.Context()))
	if applied() != none {
		t.Fatalf("barrier %v was applied, which isn't complete", applied())
	}
	complete = func(id change.BarrierID) bool { return id.Compare(second.ID) <= 0 }
	must(t, s.Step(t.Context()))
	if got, err := os.ReadFile(filepath.Join(s.dir, "a")); err != nil || applied() != second.ID || string(got) != "second" {
		t.Fatalf("barrier %v was applied, with %q; want %v", applied(), got, second.ID)
	}

	// Replaying is done, nothing is committed, and then the stream is gone.
	complete = func(change.BarrierID) bool { return true }
	stop := true
	s.reopen(nil, func(point string) error {
		if stop && point == PointReplayed {
			return errCrash
		}
		return nil
	})
	if err := s.Step(t.Context()); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	stop = false
	complete = func(id change.BarrierID) bool { return id != third.ID }
	must(t, s.Step(t.Context()))
	if applied() != second.ID {
		t.Fatalf("barrier %v was applied, which isn't complete any more", applied())
	}
	p.write("a", "fourth")
	fourth := p.barrier()
	s.receive(p)
	must(t, s.Step(t.Context()))
	if applied() != fourth.ID {
		t.Errorf("barrier %v was applied, want %v", applied(), fourth.ID)
	}
	same(t, p, s)
}
