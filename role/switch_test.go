package role

import (
	"errors"
	"strings"
	"testing"
)

// TestAdvice follows the advice of every refusal in the table: a command that is to be given
// on this node is not refused there for the same state, unless for want of the operator's
// word that the peer is down.
func TestAdvice(t *testing.T) {
	orderOf := func(command string) (o Order, ok bool) {
		switch Command(strings.Fields(command + " -")[0]) {
		case DoCutover, DoFailback, DoFailover, DoRejoin:
			o = Order{Command: Command(strings.Fields(command)[0]), ID: "o", Barrier: true, PeerIsDown: strings.Contains(command, "--peer-is-down")}
			return o, true
		}
		return o, false
	}
	followed := 0
	for _, st := range tableStates() {
		for _, ev := range tableEvents() {
			o, ok := ev.e.(Order)
			if !ok {
				continue
			}
			_, _, err := Next(st.s, o)
			var refused, again *Refusal
			if !errors.As(err, &refused) || refused.Where != "" {
				continue
			}
			advised, ok := orderOf(refused.Command)
			if !ok {
				continue
			}
			followed++
			advised.Barrier = o.Barrier
			if _, _, err := Next(st.s, advised); errors.As(err, &again) && again.Command != "failover --peer-is-down" {
				t.Errorf("%s, %s: refused (%s), with the advice %q, which is refused: %s", st.name, ev.name, refused.Text, refused.Command, again.Text)
			}
		}
	}
	if followed < 10 {
		t.Errorf("the table has %d refusals with advice, want more", followed)
	}
}

// TestSwitchRefuses has words that there aren't told from what the state doesn't allow.
func TestSwitchRefuses(t *testing.T) {
	unpaired := State{Stored: NewState("a", Primary), Live: Live{Session: "a1", Healthy: true}}
	paired := unpaired
	paired.Peer = "b"
	for _, c := range []struct {
		s      State
		target Role
		mode   Mode
		want   Reason
		advice string
	}{
		{paired, Production, "foo", Unknown, ""},
		{paired, "master", Normal, Unknown, ""},
		{unpaired, "master", "foo", Unknown, ""},
		{unpaired, Standby, Emergency, NotAllowed, "invite"},
		{unpaired, Production, Normal, NotAllowed, "invite"},
	} {
		_, nothing, err := Switch(c.s, c.target, c.mode, true)
		var r *Refusal
		if !errors.As(err, &r) || nothing {
			t.Errorf("switch to %s, %s: found %v, nothing to do: %v, want a refusal", c.target, c.mode, err, nothing)
			continue
		}
		if r.Reason != c.want || r.Command != c.advice {
			t.Errorf("switch to %s, %s: found %q with the advice %q, want %q with %q", c.target, c.mode, r.Reason, r.Command, c.want, c.advice)
		}
	}
}
