package role

import (
	"reflect"
	"testing"
	"time"
)

// TestMessages sends each message to the other side of a wire: what is for the peer
// arrives, and what is a node's own affair doesn't.
func TestMessages(t *testing.T) {
	e := Epoch{Number: 2, Promoter: "b", Nonce: "n"}
	for _, m := range []any{
		Hello{From: "a", Session: "s", Seq: 3, For: "t", Epoch: e, Learned: e, Role: Down, Stored: Production, Cause: Granted,
			Promoting: 4, Busy: true, Healthy: true},
		GrantCame{Grant: Grant{Base: Epoch{Number: 1, Promoter: "a", Nonce: "m"}, Next: e}, For: "s"},
		StepDownAsked{Plan: "p", Epoch: e, For: "s"},
		AnswerStepDown{Plan: "p", Refusal: "no"},
		Order{Command: DoCutover, ID: "o"},
	} {
		verb, body, err := MarshalMessage(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := UnmarshalMessage(verb, body)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("%s: got %+v, want %+v, by %s", verb, got, m, body)
		}
	}
	verb, body, _ := MarshalMessage(Order{Command: DoFailover, PeerIsDown: true, Barrier: true})
	if got, _ := UnmarshalMessage(verb, body); got.(Order).PeerIsDown || got.(Order).Barrier {
		t.Errorf("an operator's word about this node's peer reached the peer: %s", body)
	}
	verb, body, _ = MarshalMessage(Hello{At: time.Unix(5, 0)})
	if got, _ := UnmarshalMessage(verb, body); !got.(Hello).At.IsZero() {
		t.Errorf("the time of receipt was sent: %s", body)
	}
	if _, _, err := MarshalMessage(LinkDown{}); err == nil {
		t.Error("an event that is no message was taken for one")
	}
	if got, err := UnmarshalMessage("weather", nil); got != nil || err != nil {
		t.Errorf("an unknown verb: %v, %v", got, err)
	}
	if _, err := UnmarshalMessage("hello", []byte("{")); err == nil {
		t.Error("half a message was taken for one")
	}
}
