package apply

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"repld/change"
	"repld/health"
)

// judgingClock stops the guard once, between its question whether a barrier was accepted
// and the note that it is halted: that is when it asks for the time again.
type judgingClock struct {
	change.Clock
	asked int
	judge func() // nil: nothing is stopped
}

func (c *judgingClock) Mono() time.Duration {
	pc, _, _, _ := runtime.Caller(1)
	if c.judge != nil && strings.HasSuffix(runtime.FuncForPC(pc).Name(), ").guard") {
		if c.asked++; c.asked == 2 {
			c.judge()
		}
	}
	return c.Clock.Mono()
}

// waitsForGuard reports whether an operator's word waits until the guard has judged.
func waitsForGuard() bool {
	stacks := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(stack, "(*Applier).acceptHalt(") && strings.Contains(stack, "sync.(*Mutex).Lock(") {
			return true
		}
	}
	return false
}

// TestAcceptedWhileTheGuardLooks: the word of an operator that comes while the guard has
// the same barrier before it once more counts, whichever is noted first.
func TestAcceptedWhileTheGuardLooks(t *testing.T) {
	p, s := guarded(t, 40)
	clock := &judgingClock{Clock: change.SystemClock()}
	with := s.options
	s.options = func(o *Options) { with(o); o.Clock = clock }
	s.reopen(nil, nil)
	for i := range 40 {
		p.write(fmt.Sprintf("dir%d/file%d", i%3, i), fmt.Sprint("encrypted ", i))
	}
	s.halts(p)

	resumed := make(chan error, 1)
	clock.judge = func() {
		go func() { resumed <- s.Resume(true) }()
		deadline := time.Now().Add(10 * time.Second)
		for !waitsForGuard() {
			select {
			case err := <-resumed: // it was noted, and must not be taken back
				resumed <- err
				return
			default:
			}
			if time.Now().After(deadline) {
				t.Error("the operator's word neither counts nor waits")
				return
			}
			runtime.Gosched()
		}
	}
	if err := s.Step(t.Context()); err == nil {
		t.Fatal("a barrier that nobody had accepted was applied")
	}
	must(t, <-resumed)
	clock.judge = nil
	if s.Halted() != nil {
		t.Fatal("the operator's word is lost: the halt stands")
	}
	must(t, s.Step(t.Context()))
	same(t, p, s)
	if s.has(health.GuardHalted) {
		t.Error("the halt is told still")
	}
}
