package apply

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/zeebo/blake3"

	"repld/change"
)

// without writes a file whose data the log leaves out.
func (p *primary) without(path, data string) {
	p.lost[change.Digest(blake3.Sum256([]byte(data)))] = true
	p.write(path, data)
}

// settles wants the standby to settle at a barrier, with a file that says which, and to
// have passed another one over.
func (s *standby) settles(t *testing.T, at change.Barrier, path, data string, passed change.BarrierID) {
	t.Helper()
	must(t, s.Settle(t.Context()))
	if c, _ := s.Applied(); c.ID != at.ID {
		t.Errorf("it settled at barrier %v, want %v", c.ID, at.ID)
	}
	if got, err := os.ReadFile(filepath.Join(s.dir, path)); err != nil || string(got) != data {
		t.Errorf("%s is %q, want %q: %v", path, got, data, err)
	}
	if s.Passed() != passed {
		t.Errorf("barrier %v was passed over, want %v", s.Passed(), passed)
	}
}

// TestSettle: where the peer is gone with data that only it had, the newest barrier that
// does without is applied, be it among the received ones; and all of them when the peer
// is there again.
func TestSettle(t *testing.T) {
	for _, c := range []struct {
		name string
		away func(*primary)
		back func(*primary)
	}{
		{"no session", func(p *primary) { p.away = true }, func(p *primary) { p.away = false }},
		{"data gone", func(p *primary) { p.gone = p.lost }, func(p *primary) { p.gone = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPrimary(t)
			p.write("a", "first")
			s := newStandby(t, p)
			must(t, s.start())
			seed(t, p, s)
			p.write("a", "second")
			second := p.barrier()
			p.without("b", "lacking")
			p.barrier()
			p.without("c", "lacking, too")
			newest := p.barrier()
			s.receive(p)
			c.away(p)
			if err := s.Step(t.Context()); !errors.Is(err, ErrIncomplete) && !errors.Is(err, change.ErrNoPeer) {
				t.Fatalf("Step: %v", err)
			}
			s.settles(t, second, "a", "second", newest.ID)
			// Nothing is left that could be applied, and none of it is tried for good.
			s.settles(t, second, "a", "second", newest.ID)
			s.reopen(nil, nil)
			s.settles(t, second, "a", "second", newest.ID)
			c.back(p)
			must(t, s.Step(t.Context()))
			if !s.Passed().IsZero() {
				t.Errorf("barrier %v counts as passed over", s.Passed())
			}
			same(t, p, s)
		})
	}
}

// TestSettleWithTheNewest: nothing is passed over where all is here, or comes.
func TestSettleWithTheNewest(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "first")
	s := newStandby(t, p)
	must(t, s.start())
	seed(t, p, s)
	p.without("b", "comes")
	newest := p.barrier()
	s.receive(p)
	s.settles(t, newest, "b", "comes", change.BarrierID{})
	same(t, p, s)
	must(t, s.Pause(t.Context()))
	p.write("b", "later")
	p.barrier()
	s.receive(p)
	s.settles(t, newest, "b", "comes", change.BarrierID{}) // an operator holds it
}
