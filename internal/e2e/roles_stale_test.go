package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
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
	old, journal := p.b.barriers(1), p.b.journal()

	held, _ := relay.Forwarded()
	relay.Release()
	poll(t, "what was on its way arrives", func() error {
		if now, _ := relay.Forwarded(); now < held+16<<10 {
			return fmt.Errorf("%d bytes", now-held)
		}
		return nil
	})
	p.nothingOf(lost, old, journal)
	if err := p.a.node.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.a.link(control.LinkUp)
	p.a.is(control.StatusDown)
	p.w.works(1, 20)
	p.nothingOf(lost, old, journal)
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

// nothingOf wants that b has applied nothing since it was promoted: it holds the same
// barriers of the old epoch, no lost operation, and its journal has only grown.
func (p *stations) nothingOf(lost map[int]serviceOp, old []string, journal string) {
	p.t.Helper()
	p.b.is(control.StatusProductionAlone)
	if now := p.b.barriers(1); len(now) > 0 && (!slices.Contains(old, now[0]) || now[0] != old[0]) {
		p.t.Errorf("b holds barriers %v of the old epoch; when it was promoted %v", now, old)
	}
	now := p.b.journal()
	if len(now) < len(journal) || now[:len(journal)] != journal {
		p.t.Errorf("the journal of b was replaced")
	}
	for n, o := range lost {
		if file, line := p.b.has(o, now); file || line {
			p.t.Errorf("operation %d, which was lost, is on b now: file %t, line %t", n, file, line)
		}
	}
	if kept, _ := filepath.Glob(filepath.Join(p.b.tree, "ops", "*")); len(kept) == 0 {
		p.t.Errorf("the tree of b is empty")
	}
}
