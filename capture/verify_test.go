package capture

import (
	"context"
	"os"
	"sync"
	"testing"

	"repld/watch"
)

// TestVerifyScans: a name that went without an event is no change that is under way, and
// a verification has it looked for.
func TestVerifyScans(t *testing.T) {
	var ears *deaf
	r := newRig(t, watch.Auto, "")
	prepare(r)
	r.wrap = func(w watch.Watcher) watch.Watcher { ears = &deaf{Watcher: w}; return ears }
	r.write("a/gone", "soon")
	r.up()
	r.barrier()
	ears.now = true
	must(t, os.Remove(r.path("a/gone")))
	r.step()
	ears.now = false
	ctx, stop := r.steps()
	defer stop()
	before := r.c.State().Newest
	report, err := r.c.Verify(ctx, func(uint64, uint64) {})
	must(t, err)
	if now := r.c.State().Newest; report.Changing != 0 || now.Tree == before.Tree {
		t.Errorf("%d still change, and the tree is that of barrier %v", report.Changing, now.ID)
	}
}

// TestRescanOfNothing: looking at everything anew is no reason for a barrier.
func TestRescanOfNothing(t *testing.T) {
	r := newRig(t, watch.Auto, "")
	r.write("a/file", "content")
	r.up()
	before := r.barrier()
	r.c.Rescan()
	r.step()
	if now := r.c.State().Newest; now.ID != before.ID {
		t.Errorf("the barrier is %v, want %v as before", now.ID, before.ID)
	}
}

// steps makes the attempts that are asked for, until stop.
func (r *rig) steps() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var stepping sync.WaitGroup
	stepping.Go(func() {
		var waiting []request
		for {
			select {
			case req := <-r.c.requests:
				waiting = append(waiting, req)
			case <-ctx.Done():
				return
			}
			for len(waiting) > 0 && ctx.Err() == nil {
				if err := r.c.step(ctx, &waiting); err != nil {
					r.t.Error(err)
				}
			}
		}
	})
	return ctx, func() { cancel(); stepping.Wait() }
}
