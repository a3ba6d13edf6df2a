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
	stuck := role.State{Stored: role.Stored{Role: role.Production, Plan: role.Progress{Kind: role.Failover, ID: "o", Step: role.StepServices}}}
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
	} {
		r := &roles{state: c.s}
		failed := &role.Failed{Text: "the peer: it failed"}
		if c.cause != nil {
			failed.Cause = fmt.Errorf("group one: %w", c.cause)
		}
		err := r.explainEnd(role.Order{Command: role.DoCutover}, failed)
		if e := control.AsError(err); e.Code != c.want || e.Text != "the cutover failed: the peer: it failed" || e.Hint == "" || (e.Hint == "mend it") != (c.want == control.ExitRefused) {
			t.Errorf("after %v: found exit %d, %q, with the hint %q, want exit %d", c.cause, e.Code, e.Text, e.Hint, c.want)
		}
	}
}
