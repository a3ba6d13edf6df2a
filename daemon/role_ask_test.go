package daemon

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"repld/config"
	"repld/control"
	"repld/role"
	"repld/wire"
)

// unwell has the primary of a pair serve in bad health, so that a failover asks it to step down.
func unwell(o Options) Options {
	o.proofMost = time.Minute // a busy machine takes its time
	if o.Config.Designated == config.Primary {
		o.Config.Hooks.Promote = append(o.Config.Hooks.Promote, config.Hook{Exec: []string{"/bin/false"}, Timeout: 10 * time.Second, OnError: config.GoOn})
	}
	return o
}

// TestStepDownOverABreak loses with the link the question whether the peer steps down, or its
// answer: it is asked again over the next link, and the failover goes on.
func TestStepDownOverABreak(t *testing.T) {
	t.Parallel()
	for name, point := range map[string]string{
		"question": role.Failover.Fault(role.StepProof, false),
		"answer":   role.StepDown.Fault(role.StepLeave, false),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDivisibleWith(t, point, unwell)
			d.seeded()
			d.primary.raised("hook-failed", "")
			end := d.order(d.standby, control.VerbFailover)
			d.primary.until("the cut", d.cut.Load)
			d.unlinked()
			d.relay.Mend()
			if err := <-end; err != nil {
				t.Fatalf("the failover, whose link was down for a moment, ended with %v", err)
			}
			d.standby.is(control.StatusProductionAlone)
			d.primary.fenced()
			neverBoth(t, d.dir)
		})
	}
}

// asking has a node ask a peer, over a link, whether it steps down. The function that it
// returns changes what the peer is heard to be.
func asking(t *testing.T, proofMost time.Duration) (r *roles, ended chan error, hear func(func(*role.State))) {
	t.Helper()
	r = &roles{
		node:    &node{logger: slog.New(slog.DiscardHandler), opts: Options{proofMost: proofMost}, conn: &wire.Conn{}},
		answers: map[role.Nonce]chan role.AnswerStepDown{}, mail: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	hear = func(change func(*role.State)) {
		r.mu.Lock()
		defer r.mu.Unlock()
		change(&r.state)
		close(r.changed)
		r.changed = make(chan struct{})
	}
	s := role.State{}
	s.Plan = role.Progress{Kind: role.Failover, ID: "plan", Step: role.StepProof, Proof: role.ByStepDown}
	s.Link, s.Heard = true, role.Hello{Session: "theirs"}
	r.state = s
	ended = make(chan error, 1)
	go func() { ended <- r.askToStepDown(t.Context(), s) }()
	return r, ended, hear
}

// TestSilentPeerIsNotWaitedFor: a peer that has a link, carries out nothing and doesn't answer
// ends the step, and the question that nobody took isn't sent any more.
func TestSilentPeerIsNotWaitedFor(t *testing.T) {
	r, ended, _ := asking(t, time.Millisecond)
	if e := control.AsError(<-ended); e == nil || e.Code != control.ExitPeer || !strings.Contains(e.Text, "doesn't answer") {
		t.Errorf("the step ended with %v", e)
	}
	if mail := r.takeMail(); len(mail) != 0 {
		t.Errorf("after the step the peer is sent %s", mail[0].Verb)
	}
}

// TestAskedOverEachLink: the peer is asked once over each link, in the session that it has
// there, and while it carries out its part it is waited for.
func TestAskedOverEachLink(t *testing.T) {
	r, ended, hear := asking(t, time.Minute)
	took := func(link string, want role.Nonce) {
		t.Helper()
		select {
		case <-r.mail:
		case <-time.After(40 * time.Second):
			t.Fatalf("over %s nothing is sent", link)
		}
		mail := r.takeMail()
		if len(mail) != 1 {
			t.Fatalf("over %s are sent %d messages, want the question", link, len(mail))
		}
		m, err := role.UnmarshalMessage(mail[0].Verb, mail[0].Body)
		if asked, ok := m.(role.StepDownAsked); err != nil || !ok || asked.Plan != "plan" || asked.For != want {
			t.Fatalf("over %s is sent %+v, %v", link, m, err)
		}
	}
	took("the first link", "theirs")
	hear(func(s *role.State) { s.Heard.Busy = true })
	hear(func(s *role.State) { s.Link, s.Heard = false, role.Hello{} })
	r.node.mu.Lock()
	r.node.conn = &wire.Conn{}
	r.node.mu.Unlock()
	hear(func(s *role.State) { s.Link, s.Heard = true, role.Hello{Session: "theirs"} })
	took("the second link", "theirs")
	hear(func(s *role.State) { s.Heard.Session = "another" })
	took("the second link, from another run", "another")
	hear(func(s *role.State) { s.Heard.Busy = true })
	r.mu.Lock()
	r.answers["plan"] <- role.AnswerStepDown{Plan: "plan"}
	r.mu.Unlock()
	if err := <-ended; err != nil {
		t.Errorf("the step ended with %v", err)
	}
}
