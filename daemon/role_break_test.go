package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/config"
	"repld/control"
	"repld/role"
	"repld/wire"
)

// unlinked waits until both nodes know that the link is down, linked until it is back.
func (d *divisible) unlinked() { d.t.Helper(); d.links("the link's end", control.LinkDown) }

func (d *divisible) linked() { d.t.Helper(); d.links("the link", control.LinkUp) }

func (d *divisible) links(what string, link control.Link) {
	d.t.Helper()
	for _, s := range []*service{d.primary, d.standby} {
		s.until(what, func() bool { return s.status().Peer.Link == link })
	}
}

// order gives a command without waiting for its end.
func (d *divisible) order(on *service, verb control.RoleVerb) <-chan error {
	end := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Minute)
		defer cancel()
		_, err := on.client.ChangeRole(ctx, control.RoleRequest{Verb: verb}, nil)
		end <- err
	}()
	return end
}

func (d *divisible) seeded() {
	d.t.Helper()
	write(d.t, filepath.Join(d.dir, "primary", "a", "file"), "acknowledged")
	d.primary.applied("one")
	d.primary.applied("two")
}

// TestCutoverOverABreak breaks the link before a step that needs it, after the services have
// stopped, and mends it while the step waits: the cutover goes on, and nothing is taken back.
func TestCutoverOverABreak(t *testing.T) {
	t.Parallel()
	for _, step := range []role.Name{role.StepBarrier, role.StepGrant} {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			goOn := make(chan struct{})
			d := startDivisibleWith(t, role.Cutover.Fault(step, false), func(o Options) Options {
				o.linkBack = time.Minute // a busy machine takes its time
				o.fault = func(string) error {
					select {
					case <-goOn:
					case <-t.Context().Done():
					}
					return nil
				}
				return o
			})
			d.seeded()
			end := d.order(d.primary, control.VerbCutover)
			d.primary.until("the cut", d.cut.Load)
			d.unlinked()
			close(goOn)
			d.relay.Mend()
			if err := <-end; err != nil {
				t.Fatalf("the cutover, whose link was down for a moment, ended with %v", err)
			}
			d.standby.is(control.StatusStandbyAsProduction)
			d.primary.is(control.StatusProductionAsStandby)
			if epoch := d.primary.status().Epoch; epoch != 2 {
				t.Errorf("the cutover has ended in epoch %d, want 2", epoch)
			}
			neverBoth(t, d.dir)
			holds(t, filepath.Join(d.dir, "secondary", "a", "last"), "stopped\n")
		})
	}
}

// TestOrderOverABreak loses an order for the peer with the link: it is passed on again over
// the next one.
func TestOrderOverABreak(t *testing.T) {
	t.Parallel()
	d := startDivisibleWith(t, "", func(o Options) Options {
		o.proofMost = time.Minute
		return o
	})
	d.seeded()
	for {
		d.relay.Cut()
		end := d.order(d.standby, control.VerbCutover)
		d.unlinked()
		d.relay.Mend()
		err := <-end
		if e := control.AsError(err); e != nil && strings.Contains(e.Text, "a cutover needs both nodes") {
			d.linked() // it came so late that the link counted as down
			continue
		}
		if err != nil {
			t.Fatalf("the cutover, whose order was lost, ended with %v", err)
		}
		break
	}
	d.standby.is(control.StatusStandbyAsProduction)
	d.primary.is(control.StatusProductionAsStandby)
	neverBoth(t, d.dir)
}

// TestEndOverABreak loses the news that an order has failed with the link: it is told over
// the next one, and the order, which comes again, is not carried out again.
func TestEndOverABreak(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	failing, runs := filepath.Join(dir, "fails"), filepath.Join(dir, "runs")
	d := startDivisibleWith(t, role.Cutover.Fault(role.StepDemote, false), func(o Options) Options {
		o.proofMost = time.Minute
		if o.Config.Designated == config.Primary {
			o.Config.Hooks.Demote = append(o.Config.Hooks.Demote, config.Hook{
				Exec: []string{"/bin/sh", "-c", `test ! -e "$0" || { echo ran >> "$1"; exit 1; }`, failing, runs}, Timeout: 10 * time.Second, OnError: config.Abort,
			})
		}
		return o
	})
	d.seeded()
	write(t, failing, "")
	end := d.order(d.standby, control.VerbCutover)
	d.primary.until("the cut", d.cut.Load)
	d.unlinked()
	d.primary.is(control.StatusProduction)
	d.relay.Mend()
	e := control.AsError(<-end)
	if e == nil || e.Code != control.ExitFailed || !strings.Contains(e.Text, "exit status 1") || e.Hint == "" {
		t.Errorf("the cutover, whose demote hook fails, ended with %v", e)
	}
	if want := "on primary: what was begun is taken back: primary is production, in epoch 1"; e != nil && (e.Hint != want || !strings.HasPrefix(e.Text, "on primary: the cutover failed: ")) {
		t.Errorf("the standby is told %q, with the hint %q, want %q", e.Text, e.Hint, want)
	}
	d.linked()
	if s := d.primary.status(); s.Status != control.StatusProduction || s.Epoch != 1 {
		t.Errorf("after that the primary is %s, in epoch %d", s.Status, s.Epoch)
	}
	if _, err := os.Stat(filepath.Join(d.dir, "primary.serves")); err != nil {
		t.Errorf("its service: %v", err)
	}
	holds(t, runs, "ran\n")
	neverBoth(t, d.dir)
}

// TestOrderIsTakenOnce has an order come again and again: before and after its end, for
// another run of the daemon, and after many others.
func TestOrderIsTakenOnce(t *testing.T) {
	r := &roles{node: &node{}, mail: make(chan struct{}, 1)}
	r.state.Session = "this"
	end := func(id role.Nonce) *wire.PairMessage {
		return &wire.PairMessage{Kind: wire.PairNote, Verb: noteOrderEnded, Body: []byte(id)}
	}
	if !r.take("lasts") || !r.take("one") {
		t.Fatal("a new order isn't taken")
	}
	if r.take("one") || len(r.takeMail()) != 0 {
		t.Error("an order that is being carried out is taken again, or its end told")
	}
	r.tookEnd("one", end("one"))
	for range 2 {
		if mail := r.takeMail(); len(mail) != 1 || string(mail[0].Body) != "one" {
			t.Errorf("of an order that has ended is told %v", mail)
		}
		if r.take("one") {
			t.Error("an order that has ended is taken again")
		}
	}
	for i := range 2 * takenMost {
		id := role.Nonce(fmt.Sprint("many", i))
		if !r.take(id) {
			t.Fatalf("new order %s isn't taken", id)
		}
		r.tookEnd(id, end(id))
	}
	if r.take("lasts") {
		t.Error("an order that is still carried out is forgotten")
	}
	if len(r.taken) > takenMost {
		t.Errorf("%d orders are remembered", len(r.taken))
	}
	body, err := json.Marshal(orderAgain{For: "another", Order: role.Order{Command: role.DoCutover, ID: "late"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.hearAgain(context.Background(), body); err != nil {
		t.Fatal(err)
	}
	if !r.take("late") {
		t.Error("an order for another run of the daemon is taken")
	}
}

// TestOrderIsWithdrawn: an order that no link has taken doesn't outlast its command.
func TestOrderIsWithdrawn(t *testing.T) {
	r := &roles{node: &node{logger: slog.New(slog.DiscardHandler)}, mail: make(chan struct{}, 1)}
	for _, id := range []role.Nonce{"mine", "other"} {
		o := role.Order{Command: role.DoFailback, ID: id}
		r.Send(o)
		r.passOnAgain(orderAgain{For: "run", Order: o})
		r.Send(role.Hello{Session: id})
	}
	r.withdraw("mine")
	var left []string
	for _, m := range r.takeMail() {
		left = append(left, m.Verb)
	}
	if got, want := strings.Join(left, " "), "hello order order-again hello"; got != want {
		t.Errorf("what is left is %q, want %q", got, want)
	}
}
