package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/change"
	"repld/config"
	"repld/control"
	"repld/health"
	"repld/role"
	"repld/wire"
)

// full has the standby take nothing in: its disk counts as full.
func (d *divisible) full() {
	d.t.Helper()
	d.standby.set(func(c *config.Config) { c.DiskReserve = config.Reserve{Bytes: 1 << 60} })
	d.standby.raised(health.DiskLow, "")
}

// TestLastBarrierIsNotWaitedForForever has the standby's disk be full once the services have
// stopped, while the link holds: they start again after a while.
func TestLastBarrierIsNotWaitedForForever(t *testing.T) {
	t.Parallel()
	point := role.Cutover.Fault(role.StepBarrier, false)
	reached, goOn := make(chan struct{}), make(chan struct{})
	d := &divisible{crashing: &crashing{t: t, dir: t.TempDir()}}
	standby, primary := configure(t, d.dir, "standby", config.Secondary), configure(t, d.dir, "primary", config.Primary)
	standby.Hooks, primary.Hooks = exclusive(d.dir, "standby", "primary"), exclusive(d.dir, "primary", "standby")
	// What the last barrier has is not there before the services stop.
	primary.Hooks.Demote[0].Exec[2] += "; echo stopped >> " + filepath.Join(d.dir, "primary", "a", "last")
	d.standby = launch(t, standby, "standby")
	d.primary = launchWith(t, Options{Config: primary, barrierMost: 500 * time.Millisecond, fault: func(at string) error {
		if at == point {
			close(reached)
			select {
			case <-goOn:
			case <-t.Context().Done():
			}
		}
		return nil
	}}, "primary")
	pairUp(t, d.standby, d.primary)
	d.seeded()
	end := d.order(d.primary, control.VerbCutover)
	select {
	case <-reached:
	case err := <-end:
		t.Fatalf("the cutover ended early: %v", err)
	}
	d.full()
	close(goOn)
	e := control.AsError(<-end)
	if e == nil || e.Code != control.ExitFailed || !strings.Contains(e.Text, "the standby has not applied the newest barrier") {
		t.Errorf("the cutover, whose standby takes no barrier in, ended with %v", e)
	}
	d.primary.is(control.StatusProduction)
	if _, err := os.Stat(filepath.Join(d.dir, "primary.serves")); err != nil {
		t.Errorf("its service: %v", err)
	}
	neverBoth(t, d.dir)
}

// TestLinkLostWhileReady loses the link while it is seen whether the standby is close behind:
// the cutover ends with that, and not with a standby that is too slow.
func TestLinkLostWhileReady(t *testing.T) {
	t.Parallel()
	d := startDivisibleWith(t, "", func(o Options) Options {
		o.linkBack = 100 * time.Millisecond
		return o
	})
	d.seeded()
	d.full()
	write(t, filepath.Join(d.dir, "primary", "a", "file"), "the standby doesn't take it")
	end := d.order(d.primary, control.VerbCutover)
	d.primary.until("the plan", func() bool { return d.primary.status().Plan != nil })
	d.relay.Cut()
	if e := control.AsError(<-end); e == nil || e.Code != control.ExitPeer {
		t.Errorf("the cutover, whose link was lost, ended with %v", e)
	}
	d.primary.is(control.StatusProduction)
	neverBoth(t, d.dir)
}

// TestTooLate: what took too long is told as what it was, and that no barrier could be cut
// with the reason.
func TestTooLate(t *testing.T) {
	within, cancel := atMost(t.Context(), time.Millisecond)
	defer cancel()
	if _, limited := within.Deadline(); limited {
		t.Error("those who wait under it would wait for the link, too")
	}
	under, cancel := context.WithCancel(within)
	defer cancel()
	<-under.Done()
	err := under.Err()
	if told := tooLate(err, "late"); told == nil || told.Error() != "late" {
		t.Errorf("after its time found %v, which is told as %v", err, told)
	}
	cut := control.Errorf(control.ExitTimeout, "no barrier could be cut in time: %w", err).WithHint("a file never rests")
	if told := tooLate(why(cut), "late"); !errors.Is(told, cut) || !strings.HasSuffix(told.Error(), ": a file never rests") {
		t.Errorf("found %v, which is told as %v", cut, told)
	}
	if !linkLost(&role.Failed{Text: "it went back", Cause: role.ErrUnreachable}) {
		t.Error("a plan that went back for want of the peer is told as one that failed")
	}
	if told := tooLate(why(errNoLink), "late"); told != errNoLink {
		t.Errorf("found %v, which is told as %v", errNoLink, told)
	}
}

// TestEachBreakIsWaitedFor: a step that has worked for a while when its link breaks once more
// waits for that, too; one whose link breaks again and again at once does not go on for ever.
func TestEachBreakIsWaitedFor(t *testing.T) {
	const back = 20 * time.Millisecond
	r := &roles{node: &node{
		logger: slog.New(slog.DiscardHandler), clock: change.SystemClock(), changed: make(chan struct{}), opts: Options{linkBack: back}, conn: &wire.Conn{},
	}}
	breaks := func() error {
		r.node.mu.Lock()
		defer r.node.mu.Unlock()
		r.node.conn = &wire.Conn{} // the next one is there already
		return errNoLink
	}
	calls := 0
	err := r.overBreak(t.Context(), func(context.Context) error {
		switch calls++; calls {
		case 1:
			return breaks()
		case 2:
			<-time.After(2 * back)
			return breaks()
		}
		return nil
	})
	if err != nil || calls != 3 {
		t.Errorf("a step whose link has broken twice has ended with %v, call %d", err, calls)
	}
	if err := r.overBreak(t.Context(), func(context.Context) error { return breaks() }); !errors.Is(err, errNoLink) {
		t.Errorf("a step whose links all break has ended with %v", err)
	}
}
