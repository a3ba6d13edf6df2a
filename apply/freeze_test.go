package apply

import "testing"

// TestFreeze holds the trees where they are, until the applier is opened anew: no
// barrier that arrives meanwhile is applied.
func TestFreeze(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "a")
	s := seeded(t, p)
	before, _ := s.Applied()
	cert, err := s.Freeze(t.Context())
	must(t, err)
	if cert.ID != before.ID {
		t.Fatalf("frozen at %v, want %v", cert.ID, before.ID)
	}
	p.write("b", "b")
	p.barrier()
	s.receive(p)
	must(t, s.Step(t.Context()))
	if now, _ := s.Applied(); now.ID != before.ID {
		t.Fatalf("barrier %v was applied to frozen trees", now.ID)
	}
	s.reopen(nil, nil)
	must(t, s.Step(t.Context()))
	same(t, p, s)
}
