package role

import (
	"errors"
	"fmt"
	"testing"
)

// TestFailedKeepsTheCause has whoever gave an order find why its step failed, also after what
// was begun is taken back.
func TestFailedKeepsTheCause(t *testing.T) {
	cause := errors.New("no link")
	for _, step := range []Name{StepReady, StepBarrier} {
		p := newPair(t)
		p.n[0].fail[step] = fmt.Errorf("the peer: %w", cause)
		p.n[0].start()
		p.n[1].start()
		p.wait("a normal pair", normal)
		err := p.n[0].carry(t.Context(), Order{Command: DoCutover}, "first")
		var failed *Failed
		if !errors.As(err, &failed) || !errors.Is(err, cause) || failed.Text != "the peer: no link" {
			t.Errorf("step %s: the cutover ended with %v, want the cause of the step's failure in it", step, err)
		}
	}
}
