package daemon

import (
	"fmt"
	"strings"
	"testing"

	"repld/config"
	"repld/control"
	"repld/role"
)

// TestPlanText has a plan told by who carries it out, on whichever node it is asked for.
func TestPlanText(t *testing.T) {
	epoch := role.Epoch{Number: 1, Promoter: "a", Nonce: "one"}
	for _, c := range []struct {
		d      role.Designation
		is     role.Role // this node; the peer is the other
		orders []role.Command
		want   string
	}{
		{role.Secondary, role.Standby, []role.Command{role.DoCutover}, "cutover on there: "},
		{role.Primary, role.Standby, []role.Command{role.DoCutover, role.DoFailback}, "cutover on there: "},
		{role.Primary, role.Production, []role.Command{role.DoCutover}, "cutover on here: "},
		{role.Secondary, role.Production, []role.Command{role.DoCutover, role.DoFailback}, "cutover on here: "},
	} {
		peer := role.Production
		if c.is == role.Production {
			peer = role.Standby
		}
		s := role.State{
			Stored: role.Stored{Self: "a", Peer: "b", Designated: c.d, Epoch: epoch, Role: c.is},
			Live:   role.Live{Session: "a1", Link: true, Healthy: true, Heard: role.Hello{From: "b", Session: "b1", Epoch: epoch, Role: peer, Stored: peer, Healthy: true}},
		}
		for _, command := range c.orders {
			r := &roles{node: &node{conf: &config.Config{}, name: "here"}}
			o := role.Order{Command: command, ID: "o"}
			planned, err := role.Outline(s, o)
			if err != nil {
				t.Fatal(err)
			}
			text := r.planText(o, planned, "there")
			if !strings.HasPrefix(text, c.want) {
				t.Errorf("%s on a %s %s: found %q, want %q first", command, c.d, c.is, strings.SplitN(text, "\n", 2)[0], c.want)
			}
			stops := "demote     " + strings.Fields(c.want)[2]
			if !strings.Contains(text, strings.TrimSuffix(stops, ":")) {
				t.Errorf("%s on a %s %s: found\n%s\nwant %q in it", command, c.d, c.is, text, stops)
			}
		}
	}
}

// TestExplainEnd has a change of roles that failed for want of the peer told from others, if
// nothing of it is left.
func TestExplainEnd(t *testing.T) {
	stuck := role.State{Stored: role.Stored{Role: role.Down, Plan: role.Progress{Kind: role.Cutover, ID: "o", Step: role.StepTaken}}}
	before := role.State{Stored: role.Stored{Role: role.Production, Plan: role.Progress{Kind: role.TakeOver, ID: "before", Step: role.StepServices}}}
	for _, c := range []struct {
		cause error
		s     role.State
		want  control.Exit
	}{
		{errNoLink, role.State{}, control.ExitPeer},
		{control.Errorf(control.ExitPeer, "the peer doesn't answer"), role.State{}, control.ExitPeer},
		{control.Errorf(control.ExitRefused, "not ready").WithHint("mend it"), role.State{}, control.ExitRefused},
		{control.Errorf(control.ExitRefused, "not ready").WithHint("mend it"), stuck, control.ExitFailed},
		{nil, role.State{}, control.ExitFailed},
		{errNoLink, stuck, control.ExitFailed},
		{errNoLink, before, control.ExitPeer},
		{control.Errorf(control.ExitRefused, "not ready").WithHint("mend it"), before, control.ExitRefused},
		{nil, before, control.ExitFailed},
	} {
		r := &roles{node: &node{name: "here"}, state: c.s}
		failed := &role.Failed{Text: "the peer: it failed"}
		if c.cause != nil {
			failed.Cause = fmt.Errorf("group one: %w", c.cause)
		}
		err := r.explainEnd(role.Order{Command: role.DoCutover}, failed)
		if e := control.AsError(err); e.Code != c.want || e.Text != "the cutover failed: the peer: it failed" || e.Hint == "" || (e.Hint == "mend it") != (c.want == control.ExitRefused) {
			t.Errorf("after %v: found exit %d, %q, with the hint %q, want exit %d", c.cause, e.Code, e.Text, e.Hint, c.want)
		}
		if e := control.AsError(err); e.Hint != "mend it" && strings.Contains(e.Hint, "still waits at step services: mend the cause, then `replctl failover` on here") != (c.s == before) {
			t.Errorf("after %v: found the hint %q", c.cause, e.Hint)
		}
	}
}

// TestToldOnTheOtherNode has what failed on one node told on the other one, where the order
// was given: the words say which node they are about, and the hints where a command helps.
func TestToldOnTheOtherNode(t *testing.T) {
	stuck := role.State{Stored: role.Stored{Designated: role.Primary, Role: role.Down, Plan: role.Progress{Kind: role.Cutover, ID: "o", Step: role.StepTaken}}}
	before := role.State{Stored: role.Stored{Designated: role.Primary, Role: role.Production, Plan: role.Progress{Kind: role.TakeOver, ID: "before", Step: role.StepServices}}}
	serves := role.State{Stored: role.Stored{Designated: role.Primary, Role: role.Production, Epoch: role.Epoch{Number: 3}}}
	busy := &role.Refusal{Reason: role.NotAllowed, State: "production", Text: "the peer carries out a plan of its own: want it to end first"}
	rejoin := &role.Refusal{Reason: role.NotAllowed, State: "production", Text: "it has to rejoin first", Command: "rejoin", Where: "on the other node"}
	switches := &role.Refusal{Reason: role.NotAllowed, State: "down", Text: "this node is fenced", Command: "rejoin"}
	for name, c := range map[string]struct {
		err               error
		s                 role.State
		code              control.Exit
		text, state, hint string
	}{
		"taken back": {&role.Failed{Text: "it failed"}, serves, control.ExitFailed, "on here: the cutover failed: it failed", "on here: production",
			"on here: what was begun is taken back: here is production, in epoch 3"},
		"stuck": {&role.Failed{Text: "it failed"}, stuck, control.ExitFailed, "on here: the cutover failed: it failed", "on here: down",
			"on here: there is no way back from step taken: mend the cause, then `replctl failover` goes on"},
		"stuck before": {&role.Failed{Text: "it failed"}, before, control.ExitFailed, "on here: the cutover failed: it failed", "on here: production",
			"on here: what was begun is taken back: here is production, in epoch 0; its take-over still waits at step services: mend the cause, then `replctl failover` on here goes on with it"},
		"refused":                    {busy, serves, control.ExitRefused, "on here: " + busy.Text, "on here: production", ""},
		"a command there":            {rejoin, serves, control.ExitRefused, "on here: " + rejoin.Text, "on here: production", "on there: replctl rejoin"},
		"a command on the other one": {switches, serves, control.ExitRefused, "on here: " + switches.Text, "on here: down", "on here: replctl rejoin"},
	} {
		r := &roles{node: &node{name: "here"}, state: c.s}
		e := r.toldOn("there", r.explainEnd(role.Order{Command: role.DoCutover}, c.err))
		if e.Code != c.code || e.Text != c.text || e.State != c.state || e.Hint != c.hint {
			t.Errorf("%s: found exit %d, %q, state %q, hint %q; want exit %d, %q, state %q, hint %q", name, e.Code, e.Text, e.State, e.Hint, c.code, c.text, c.state, c.hint)
		}
	}
}
