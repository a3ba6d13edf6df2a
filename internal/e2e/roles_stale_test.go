package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"repld/control"
	"repld/wire/wiretest"
)

// TestRolesStale has packets of the old primary on their way, and its daemon stopped in
// the middle of sending, while the standby is promoted. They arrive, and it goes on: of
// what it sends nothing is applied, and what it had is in its salvage.
func TestRolesStale(t *testing.T) {
	t.Parallel()
	p := &stations{t: t, seed: seeded(t)}
	dir, listen := tempDir(t), freePort(t)
	addr, err := net.ResolveUDPAddr("udp", listen)
	if err != nil {
		t.Fatal(err)
	}
	relay := wiretest.NewRelay(t, addr, p.seed, wiretest.RelayOptions{})
	p.a = newStation(t, dir, "a", "primary", "127.0.0.1:0", 200*time.Millisecond)
	p.b = newStation(t, dir, "b", "secondary", listen, 200*time.Millisecond)
	p.join(relay.Addr())

	relay.Hold()
	before := p.a.captured()
	for range 8 {
		p.w.do(64 << 10)
	}
	poll(t, "some of it is being sent", func() error {
		if now := p.a.captured(); now < before+4 {
			return fmt.Errorf("a has captured %d barriers since", now-before)
		}
		return nil
	})
	if err := p.a.node.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.w.works(0, 20) // the daemon will find these when it goes on
	p.a.killService()
	lost := p.failover()
	if len(lost) < 20 {
		t.Errorf("%d acknowledged operations are lost: what was on its way has arrived, and the test shows nothing", len(lost))
	}
	was := p.promotedState(lost)

	held, _ := relay.Forwarded()
	relay.Release()
	poll(t, "what was on its way arrives", func() error {
		if now, _ := relay.Forwarded(); now < held+16<<10 {
			return fmt.Errorf("%d bytes", now-held)
		}
		return nil
	})
	p.nothingOf(lost, was)
	if err := p.a.node.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.a.link(control.LinkUp)
	p.a.is(control.StatusDown)
	p.w.works(1, 20)
	p.nothingOf(lost, was)
	p.returns(lost)
}

// captured is the number of the newest barrier that a node has cut.
func (s *station) captured() uint64 {
	s.t.Helper()
	g, err := s.node.group(opsGroup)
	if err != nil || g.Barriers.Captured == nil {
		s.t.Fatalf("%v: %+v", err, g)
	}
	return g.Barriers.Captured.ID.Seq
}

// promotedState is what b holds of epoch 1 before it can have received anything since it
// was promoted.
type promotedState struct {
	barriers []string
	journal  string
	half     int // the lost operation that was being done when the promoted barrier was cut; -1: none
}

// promotedState reads it. The service does one operation after another, and of each first
// the file and then the line: of one lost operation at most b may hold the file.
func (p *stations) promotedState(lost map[int]serviceOp) promotedState {
	p.t.Helper()
	was := promotedState{p.b.barriers(1), p.b.journal(), -1}
	for n, o := range lost {
		file, line := p.b.has(o, was.journal)
		if line || file && was.half >= 0 {
			p.t.Errorf("operation %d, which is lost, is on b: file %t, line %t; operation %d is, too", n, file, line, was.half)
		}
		if file {
			was.half = n
		}
	}
	return was
}

// nothingOf wants that b has applied nothing since it was promoted: it holds the same
// barriers of the old epoch, nothing more of lost operations, and its journal has only
// grown.
func (p *stations) nothingOf(lost map[int]serviceOp, was promotedState) {
	p.t.Helper()
	p.b.is(control.StatusProductionAlone)
	if now := p.b.barriers(1); len(now) > 0 && (len(was.barriers) == 0 || now[0] != was.barriers[0]) {
		p.t.Errorf("b holds barriers %v of the old epoch; when it was promoted %v", now, was.barriers)
	}
	now := p.b.journal()
	if !strings.HasPrefix(now, was.journal) {
		p.t.Errorf("the journal of b was replaced")
	}
	for n, o := range lost {
		if file, line := p.b.has(o, now); file != (n == was.half) || line {
			p.t.Errorf("operation %d, which was lost, is on b now: file %t, line %t; half of operation %d was when it was promoted", n, file, line, was.half)
		}
	}
	if kept, _ := filepath.Glob(filepath.Join(p.b.tree, "ops", "*")); len(kept) == 0 {
		p.t.Errorf("the tree of b is empty")
	}
}
