package daemon

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"repld/change"
	"repld/config"
	"repld/control"
	"repld/role"
	"repld/wire"
)

// heldClock holds whoever reads the wall clock first after it was armed, until it is let go.
type heldClock struct {
	change.Clock
	armed      atomic.Bool
	held, free chan struct{}
}

func (c *heldClock) Now() time.Time {
	if c.armed.CompareAndSwap(true, false) {
		close(c.held)
		<-c.free
	}
	return c.Clock.Now()
}

// unlinkedNode is a node in a state, without a link, whose groups don't run, and whose plans
// begin and aren't carried out.
func unlinkedNode(t *testing.T, clock change.Clock, s role.Stored, groups ...config.Group) *roles {
	t.Helper()
	dir := t.TempDir()
	n, err := openNode(Options{
		Config: &config.Config{Node: "here", Designated: config.Secondary, State: filepath.Join(dir, "state"), Groups: groups, Live: config.Live{DiskReserve: config.Reserve{Bytes: 1}}},
		Clock:  clock, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	s.Self, s.Peer, s.Designated = n.roles.now().Self, "peer", role.Secondary
	n.roles.driver = role.NewDriver(role.Options{State: s, Store: n.roles, Steps: n.roles})
	if err := n.roles.driver.Tell(role.Start{Session: "run"}); err != nil {
		t.Fatal(err)
	}
	return n.roles
}

// order gives an order, and returns what it ends with.
func (r *roles) order(ctx context.Context, req control.RoleRequest) <-chan error {
	end := make(chan error, 1)
	go func() {
		_, err := r.change(ctx, req, "a test", func(control.RoleProgress) {})
		end <- err
	}()
	return end
}

var standsBy = role.Stored{Role: role.Standby, Epoch: role.Epoch{Number: 1, Promoter: "peer", Nonce: "one"}}

// TestChoiceOfTheOneThatBegins gives two failovers at once: the plan that begins keeps what was
// chosen for it, whatever was chosen for the one that is refused, in memory and on the disk.
func TestChoiceOfTheOneThatBegins(t *testing.T) {
	clock := &heldClock{Clock: change.SystemClock(), held: make(chan struct{}), free: make(chan struct{})}
	r := unlinkedNode(t, clock, standsBy)
	clock.armed.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	refused := r.order(ctx, control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true, Databases: control.DatabasesEnd})
	<-clock.held // it may begin, as far as it has looked
	carried := r.order(ctx, control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true, Databases: control.DatabasesBarrier})
	s, err := r.await(ctx, func(s role.State) bool { return !s.Plan.IsZero() })
	if err != nil {
		t.Fatal(err)
	}
	close(clock.free)
	if err := <-refused; control.ExitOf(err) != control.ExitRefused {
		t.Fatalf("a failover during another one ends with %v", err)
	}
	var stored choiceFile
	if _, err := r.node.state.load(choiceName, &stored); err != nil {
		t.Fatal(err)
	}
	for where, c := range map[string]choiceFile{"in memory": r.choiceOf(s.Plan), "on the disk": stored} {
		if c.Plan != s.Plan.ID || !c.Stood || c.Databases != control.DatabasesBarrier {
			t.Errorf("the choice %s is %+v, want that of plan %s", where, c, s.Plan.ID)
		}
	}
	if len(r.offered) != 0 {
		t.Errorf("what was chosen for orders that were given is still kept: %v", r.offered)
	}
	cancel()
	if err := <-carried; !errors.Is(err, context.Canceled) {
		t.Errorf("the failover whose caller goes ends with %v", err)
	}
}

// TestChoiceOfARejoin: of two rejoins what was chosen for the one that begins is stored, once.
func TestChoiceOfARejoin(t *testing.T) {
	r := unlinkedNode(t, change.SystemClock(), standsBy)
	for id, discard := range map[role.Nonce]bool{"begins": false, "refused": true} {
		defer r.offer(id, control.RoleRequest{Verb: control.VerbRejoin, DiscardDatabase: discard})()
	}
	s := r.now().Stored
	s.Plan = role.Progress{Kind: role.Rejoin, ID: "begins", Target: role.Epoch{Number: 7}, Step: role.StepReady}
	for range 2 {
		if err := r.Save(s); err != nil {
			t.Fatal(err)
		}
		var stored rejoinFile
		if _, err := r.node.state.load(rejoinName, &stored); err != nil || stored != (rejoinFile{Epoch: 7}) {
			t.Errorf("the choice is %+v, %v", stored, err)
		}
	}
}

// TestWithdrawnOrder: an order whose caller goes while it waits to know what the peer is begins
// nothing, whatever it would have come to without an answer.
func TestWithdrawnOrder(t *testing.T) {
	failover := control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true}
	for name, c := range map[string]struct {
		linked, heard bool
	}{"before it is looked": {false, false}, "while the peer hasn't said what it is": {true, false}, "while the peer doesn't answer": {true, true}} {
		t.Run(name, func(t *testing.T) {
			r := unlinkedNode(t, change.SystemClock(), standsBy)
			ctx, cancel := context.WithCancel(t.Context())
			if c.linked {
				r.node.conn = &wire.Conn{}
			}
			if c.heard {
				if err := r.driver.Tell(role.Hello{From: "peer", Session: "its", Seq: 1, Epoch: standsBy.Epoch, Role: role.Production, Stored: role.Production}); err != nil {
					t.Fatal(err)
				}
			} else {
				cancel()
			}
			_, err := r.change(ctx, failover, "a test", func(control.RoleProgress) { cancel() })
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the order ends with %v", err)
			}
			if p := r.now().Plan; !p.IsZero() {
				t.Errorf("it has begun %+v", p)
			}
		})
	}
}

// TestNewsOfThePeersPart has a cutover's peer tell that a hook of its failed, just before it is
// heard to serve: whoever gave the order is told of it, however late the news are read.
func TestNewsOfThePeersPart(t *testing.T) {
	serves := standsBy
	serves.Role = role.Production
	r := unlinkedNode(t, change.SystemClock(), serves)
	tell := func(events ...role.Event) {
		t.Helper()
		for _, e := range events {
			if err := r.driver.Tell(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	its := role.Hello{From: "peer", Session: "its", Seq: 1, For: "run", Epoch: serves.Epoch, Role: role.Standby, Stored: role.Standby}
	tell(role.PatienceOver{}, its)
	var reply *control.RoleReply
	end := make(chan error, 1)
	go func() {
		var err error
		reply, err = r.change(t.Context(), control.RoleRequest{Verb: control.VerbCutover}, "a test", func(control.RoleProgress) {})
		end <- err
	}()
	s, err := r.await(t.Context(), func(s role.State) bool { return !s.Plan.IsZero() })
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []role.Name{role.StepReady, role.StepDemote, role.StepBarrier, role.StepDatabases, role.StepGrant} {
		tell(role.StepDone{Plan: s.Plan.ID, Step: step})
	}
	const failed = "check hook: it failed"
	r.passOn(control.RoleProgress{Node: "there", Type: control.EventHookFailed, Text: failed})
	its.Seq, its.Epoch, its.Role, its.Stored = 2, s.Plan.Target, role.Production, role.Production
	tell(its)
	if err := <-end; err != nil {
		t.Fatal(err)
	}
	if reply.Failed != failed || reply.Unfinished != nil {
		t.Errorf("of the peer's part the reply says %q, unfinished %v; want %q", reply.Failed, reply.Unfinished, failed)
	}
}

// TestLostAfterThePromotion loses the peer after it was promoted: that nobody knows whether it
// serves is no success. A link that is back in time says whether it does.
func TestLostAfterThePromotion(t *testing.T) {
	for name, c := range map[string]struct {
		most, within time.Duration
		back         bool
		want         control.Exit
	}{
		"for good":          {time.Millisecond, time.Minute, false, control.ExitPeer},
		"until the end":     {time.Minute, time.Millisecond, false, control.ExitPeer},
		"and it comes back": {time.Minute, time.Minute, true, control.ExitDone},
	} {
		t.Run(name, func(t *testing.T) {
			r := &roles{node: &node{name: "here", opts: Options{proofMost: c.most, afterPromotion: c.within}}, changed: make(chan struct{})}
			r.state.Stored.Role = role.Standby
			var reply control.RoleReply
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				r.awaitPeer(t.Context(), nil, nil, &reply)
			}()
			if c.back {
				now := r.now()
				now.Link = true // and it has said nothing yet
				for _, now.Heard.Role = range []role.Role{role.Down, role.Production} {
					select {
					case <-ended:
						t.Error("it isn't waited for what the peer says")
					default:
					}
					r.mu.Lock()
					r.state = now
					close(r.changed)
					r.changed = make(chan struct{})
					r.mu.Unlock()
				}
			}
			<-ended
			var err error
			if reply.Unfinished != nil {
				err = reply.Unfinished
			}
			if code := control.ExitOf(err); code != c.want || (reply.Failed == "") != (c.want == control.ExitDone) {
				t.Errorf("the cutover ends with exit %d, %v, failed %q, want exit %d", code, err, reply.Failed, c.want)
			}
		})
	}
}

// TestRejoinWaitsForTheClose has a node that was just fenced look for what only it has while
// one of its groups isn't closed yet: that is waited for.
func TestRejoinWaitsForTheClose(t *testing.T) {
	serves := standsBy
	serves.Role = role.Production
	one := config.Group{Name: "one", Trees: []config.Tree{{Name: "a", Path: t.TempDir(), Watch: config.WatchAuto}}, GroupLive: config.DefaultGroup()}
	r := unlinkedNode(t, change.SystemClock(), serves, one)
	its := role.Hello{From: "peer", Session: "its", Seq: 1, For: "run", Epoch: serves.Epoch, Role: role.Standby, Stored: role.Standby}
	for _, e := range []role.Event{role.PatienceOver{}, its} {
		if err := r.driver.Tell(e); err != nil {
			t.Fatal(err)
		}
	}
	g := r.groups[0]
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.run(ctx) }()
	defer func() { cancel(); <-ended }()
	if err := g.opened(ctx); err != nil {
		t.Fatal(err)
	}
	_, during, leave, err := g.use(ctx)
	if err != nil {
		t.Fatal(err)
	}
	its.Seq, its.Role, its.Stored, its.Epoch = 2, role.Production, role.Production, role.Epoch{Number: 2, Promoter: "peer", Nonce: "two"}
	if err := r.driver.Tell(its); err != nil {
		t.Fatal(err)
	}
	<-during.Done() // it is about to be closed
	gone, give := context.WithCancel(ctx)
	give()
	if _, err := g.checkSalvage(gone, change.BarrierID{}); !errors.Is(err, context.Canceled) {
		t.Errorf("while a group is in use the look ends with %v, want it to wait", err)
	}
	leave()
	if _, err := g.checkSalvage(ctx, change.BarrierID{}); err != nil {
		t.Errorf("once it is closed the look ends with %v", err)
	}
}
