package apply

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/health"
)

// guarded is a pair with n files and a guard of half.
func guarded(t *testing.T, n int) (*primary, *standby) {
	t.Helper()
	p := newPrimary(t)
	for i := range n {
		p.write(fmt.Sprintf("dir%d/file%d", i%3, i), fmt.Sprint("content ", i))
	}
	s := newStandby(t, p)
	s.options = func(o *Options) { o.Guard = 50 }
	must(t, s.start())
	seed(t, p, s)
	return p, s
}

// halts cuts a barrier and wants the guard to stop it.
func (s *standby) halts(p *primary) *ErrGuardHalted {
	s.t.Helper()
	before := listing(s.t, s.dir)
	p.barrier()
	s.receive(p)
	var halted *ErrGuardHalted
	if err := s.Step(s.t.Context()); !errors.As(err, &halted) {
		s.t.Fatalf("step: %v, want a halt", err)
	}
	if fmt.Sprint(listing(s.t, s.dir)) != fmt.Sprint(before) {
		s.t.Fatal("the tree was changed")
	}
	if s.Halted() == nil || !s.has(health.GuardHalted) {
		s.t.Fatal("the halt doesn't stand")
	}
	return halted
}

// TestGuard: encrypted, emptied and deleted trees halt the standby, over a
// restart, until somebody accepts it or it comes back.
func TestGuard(t *testing.T) {
	p, s := guarded(t, 40)
	for i := range 25 {
		p.write(fmt.Sprintf("dir%d/file%d", i%3, i), fmt.Sprint("encrypted ", i))
	}
	halted := s.halts(p)
	if halted.Rewritten != 25 || halted.Deleted != 0 || halted.Files != 40 || len(halted.Examples) == 0 {
		t.Errorf("halted with %+v", halted)
	}
	s.reopen(nil, nil)
	if s.Halted() == nil || !s.has(health.GuardHalted) {
		t.Error("a restart ends the halt")
	}
	must(t, s.Resume(false))
	p.write("another", "file")
	if halted = s.halts(p); halted.Barrier.Seq != p.seq {
		t.Errorf("halted at %s, want the newest", halted.Barrier)
	}
	// It comes back by itself: fewer than half are lost now.
	for i := range 10 {
		p.write(fmt.Sprintf("dir%d/file%d", i%3, i), fmt.Sprint("content ", i))
	}
	s.sync(p)
	same(t, p, s)
	if s.Halted() != nil || s.has(health.GuardHalted) {
		t.Error("the halt stands")
	}
	must(t, os.RemoveAll(p.at("dir0")))
	must(t, os.RemoveAll(p.at("dir1")))
	if halted = s.halts(p); halted.Deleted != 27 {
		t.Errorf("halted with %+v", halted)
	}
	want := listing(t, p.dir)
	accepted := halted.Barrier
	must(t, s.Resume(true))
	s.reopen(nil, nil)
	// Exactly what was accepted goes on; what came behind it is looked at anew.
	must(t, os.RemoveAll(p.at("dir2")))
	p.barrier()
	s.receive(p)
	for len(s.wake) > 0 {
		<-s.wake
	}
	must(t, s.Step(t.Context()))
	if len(s.wake) == 0 {
		t.Error("nothing has what came behind it applied")
	}
	equal(t, "accepted", listing(t, s.dir), want)
	if cert, _ := s.Applied(); cert.ID != accepted {
		t.Errorf("applied %s, want %s", cert.ID, accepted)
	}
	must(t, s.Step(t.Context())) // of 14 files: too small a tree to be guarded
	same(t, p, s)
	if s.Halted() != nil || s.has(health.GuardHalted) {
		t.Error("the halt stands")
	}
}

// TestGuardAcceptedInVain: a barrier that was accepted, and lacks data that nobody has any
// more, doesn't hold up those behind it; the newest is judged by itself.
func TestGuardAcceptedInVain(t *testing.T) {
	p, s := guarded(t, 40)
	must(t, os.RemoveAll(p.at("dir0")))
	must(t, os.RemoveAll(p.at("dir1")))
	digest := change.Digest(blake3.Sum256([]byte("first version")))
	p.lost[digest], p.gone[digest] = true, true
	p.write("hot", "first version")
	first := s.halts(p).Barrier
	must(t, s.Resume(true))
	p.write("hot", "second version")
	newest := p.barrier()
	s.receive(p)
	if err := s.Step(t.Context()); !errors.Is(err, ErrIncomplete) || s.Lacks() != first {
		t.Fatalf("step: %v; barrier %v lacks data, want %v to", err, s.Lacks(), first)
	}
	var halted *ErrGuardHalted
	if err := s.Step(t.Context()); !errors.As(err, &halted) || halted.Barrier != newest.ID {
		t.Fatalf("step: %v, want a halt at %v", err, newest.ID)
	}
	must(t, s.Resume(true))
	must(t, s.Step(t.Context()))
	same(t, p, s)
	if s.Halted() != nil || !s.Lacks().IsZero() {
		t.Errorf("halted: %v, lacks data: %v", s.Halted(), s.Lacks())
	}
}

// TestGuardLetsThrough: what merely looks like a loss doesn't halt.
func TestGuardLetsThrough(t *testing.T) {
	p, s := guarded(t, 40)
	for i := range 40 { // written anew under another name, and renamed: the same content
		name := fmt.Sprintf("dir%d/file%d", i%3, i)
		p.write(name+".new", fmt.Sprint("content ", i))
		p.mv(name+".new", name)
	}
	s.sync(p)
	p.mv("dir0", "elsewhere")
	p.mv("dir1", "elsewhere/dir1")
	s.sync(p)
	same(t, p, s)
	for i := range 40 { // emptied files were nothing before
		p.write(fmt.Sprint("empty", i), "")
	}
	s.sync(p)
	for i := range 40 {
		p.write(fmt.Sprint("empty", i), "now it is something")
	}
	s.sync(p)
	same(t, p, s)
}

// TestGuardAfterRewind: going forward again isn't guarded, it was applied before.
func TestGuardAfterRewind(t *testing.T) {
	p, s := guarded(t, 40)
	good, _ := s.Applied()
	for i := range 40 {
		p.write(fmt.Sprintf("dir%d/file%d", i%3, i), fmt.Sprint("encrypted ", i))
	}
	s.halts(p)
	must(t, s.Resume(true))
	must(t, s.Step(t.Context()))
	same(t, p, s)
	must(t, s.Rewind(t.Context(), good.ID))
	must(t, s.Resume(false))
	must(t, s.Step(t.Context()))
	same(t, p, s)
}
