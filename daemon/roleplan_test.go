package daemon

import (
	"strings"
	"testing"

	"repld/config"
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
