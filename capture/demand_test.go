package capture

import (
	"math"
	"runtime"
	"sync/atomic"
	"testing"

	"repld/watch"
)

// TestDemandWhileABarrierIsWritten demands a barrier when the record of another one
// stands in the log already, as the sender of a base does that begins behind it:
// another one must follow.
func TestDemandWhileABarrierIsWritten(t *testing.T) {
	r := newRig(t, watch.Fanotify, "").up()
	r.barrier()
	for demands := 0; demands < 5; {
		r.write("f", "something")
		var over atomic.Bool
		demanded := make(chan bool)
		go func() {
			// From its record on until its commit nothing behind a barrier is sent.
			for hold := r.c.hold.Load(); hold == math.MaxUint64 || r.log.End().Offset <= hold; hold = r.c.hold.Load() {
				if over.Load() {
					demanded <- false
					return
				}
				runtime.Gosched()
			}
			r.c.Demand()
			demanded <- true
		}()
		first := r.barrier()
		over.Store(true)
		if !<-demanded {
			continue // it was too quick
		}
		demands++
		r.step()
		if second := r.c.State().Newest; second.ID == first.ID {
			t.Fatalf("no barrier followed %v after the demand", first.ID)
		}
	}
}
