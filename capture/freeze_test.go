package capture

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"repld/change"
	"repld/health"
	"repld/watch"
)

// gate is a Freezer of the writers in this process: it waits for their calls, as the
// kernel does, and lets none begin.
type gate struct {
	sync.RWMutex
	calls  atomic.Int32
	fail   error  // of Freeze, and of Check
	late   error  // of Thaw
	thawed bool   // by somebody else
	closed func() // called when it is closed
}

// Check implements [Freezer].
func (g *gate) Check() error { return g.fail }

// Freeze implements [Freezer].
func (g *gate) Freeze() (Frozen, error) {
	g.calls.Add(1)
	if g.fail != nil {
		return nil, g.fail
	}
	g.Lock()
	if g.closed != nil {
		g.closed()
	}
	return &closedGate{g, time.Now()}, nil
}

type closedGate struct {
	*gate
	since time.Time
}

// Still implements [Frozen].
func (g *closedGate) Still() bool { return !g.thawed }

// Thaw implements [Frozen].
func (g *closedGate) Thaw() (time.Duration, error) {
	g.Unlock()
	return time.Since(g.since), g.late
}

// busy is a rig with a file that is written whenever it is read, unless the gate is
// closed. It is too large to be copied first.
type busy struct {
	*rig
	gate    *gate
	clock   *shiftClock
	writes  bool
	written int
}

const busySize = copyMax + 1

func newBusy(t *testing.T, b watch.Backend, first bool) *busy {
	w := &busy{rig: newRig(t, b, ""), gate: &gate{}, clock: &shiftClock{}}
	w.rig.clock = w.clock
	w.options = func(o *Options) { o.Freezer, o.FreezeFirst, o.LateAfter = w.gate, first, time.Minute }
	w.write("f", string(make([]byte, busySize)))
	w.up().step()
	w.barrier()
	w.c.onRead = func(string, int64, int) { w.overwrite() }
	return w
}

// overwrite changes the file, if nothing holds the writer.
func (w *busy) overwrite() {
	if !w.writes || !w.gate.TryRLock() {
		return
	}
	defer w.gate.RUnlock()
	f, err := os.OpenFile(w.path("f"), os.O_WRONLY, 0)
	must(w.t, err)
	w.written++
	_, err = fmt.Fprintf(f, "%020d", w.written)
	must(w.t, errors.Join(err, f.Close()))
}

// TestFreezeRung: what can't be cut in the midst of writing is cut while the writers
// stand still, and the certificate says so.
func TestFreezeRung(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		for name, first := range map[string]bool{"if need be": false, "always": true} {
			t.Run(name, func(t *testing.T) {
				w := newBusy(t, b, first)
				w.writes = true
				for range 2 {
					w.overwrite()
					cut := w.barrier()
					if cut.Rung != change.RungCgroup || cut.Stall <= 0 {
						t.Errorf("barrier %v is of rung %v, stall %v", cut.ID, cut.Rung, cut.Stall)
					}
				}
				if w.written < 3 && !first {
					t.Errorf("%d writes disturbed nothing", w.written)
				}
				if text := w.condition(health.FreezeFailed); text != "" {
					t.Error(text)
				}
			})
		}
	})
}

// TestFreezeNotNeeded: as long as rounds converge nobody has to stand still.
func TestFreezeNotNeeded(t *testing.T) {
	w := newBusy(t, watch.Inotify, false)
	w.gate.calls.Store(0)
	for n := range 5 {
		w.write(fmt.Sprint(n), "x")
		if cut := w.barrier(); cut.Rung != change.RungOptimistic || cut.Stall != 0 {
			t.Errorf("barrier %v is of rung %v, stall %v", cut.ID, cut.Rung, cut.Stall)
		}
	}
	if n := w.gate.calls.Load(); n > 0 {
		t.Errorf("frozen %d times", n)
	}
}

// TestHealthFreezeFailed: whatever is wrong with a freeze, no barrier says that it was
// cut in it, a condition says why, another one comes after a pause, and the condition
// is over when that goes well.
func TestHealthFreezeFailed(t *testing.T) {
	broken := errors.New("it is broken")
	for name, c := range map[string]struct {
		spoil func(w *busy)
		want  string
		rung  change.Rung // of the first barrier
	}{
		"not frozen": {func(w *busy) { w.gate.fail = broken }, broken.Error(), change.RungOptimistic},
		"too long":   {func(w *busy) { w.gate.late = broken }, broken.Error(), change.RungCgroup}, // what was read was read in it
		"thawed":     {func(w *busy) { w.gate.thawed = true }, "thawed by somebody else", change.RungOptimistic},
	} {
		t.Run(name, func(t *testing.T) {
			w := newBusy(t, watch.Inotify, true)
			c.spoil(w)
			w.write("g", "x")
			w.gate.calls.Store(0)
			for _, rung := range []change.Rung{c.rung, change.RungOptimistic, change.RungOptimistic} {
				if cut := w.barrier(); cut.Rung != rung {
					t.Errorf("barrier %v is of rung %v, want %v", cut.ID, cut.Rung, rung)
				}
				if text := w.condition(health.FreezeFailed); !strings.Contains(text, c.want) {
					t.Errorf("the condition says %q, want %q", text, c.want)
				}
				w.write("g", "y")
			}
			if n := w.gate.calls.Load(); n != 1 {
				t.Errorf("tried %d times at once", n)
			}
			w.gate.fail, w.gate.late, w.gate.thawed = nil, nil, false
			w.clock.pass(freezePause)
			w.write("g", "z")
			if cut := w.barrier(); cut.Rung != change.RungCgroup {
				t.Errorf("barrier %v is of rung %v", cut.ID, cut.Rung)
			}
			if text := w.condition(health.FreezeFailed); text != "" {
				t.Errorf("it works, and the condition says %q", text)
			}
		})
	}
}

// TestFreezeInVain: others write while the application stands still.
func TestFreezeInVain(t *testing.T) {
	w := newBusy(t, watch.Inotify, true)
	d := &fakeDatabase{onPosition: func() { w.write("f", "others") }}
	w.c.opts.Databases = []Database{{Name: "d", Engine: "fake", Source: d}}
	w.write("g", "x")
	before := w.c.State().Newest.ID
	for range 3 {
		w.step()
	}
	if now := w.c.State().Newest; now.ID != before {
		t.Errorf("barrier %v, though a file changes whenever the position is read", now.ID)
	}
	if text := w.condition(health.FreezeFailed); !strings.Contains(text, "others write") {
		t.Errorf("the condition says %q", text)
	}
	d.set(func(d *fakeDatabase) { d.onPosition, d.fail = nil, errors.New("no answer") })
	w.clock.pass(freezePause)
	w.step()
	if text := w.condition(health.FreezeFailed); !strings.Contains(text, "no answer; no server of its databases must be in the control group") {
		t.Errorf("the condition says %q", text)
	}
}

// TestFreezerChecked: that the application can't be frozen shows before it has to be.
func TestFreezerChecked(t *testing.T) {
	w := newBusy(t, watch.Inotify, false)
	for _, fail := range []error{errors.New("there is no such group"), nil} {
		w.gate.fail = fail
		w.clock.pass(2 * time.Second)
		w.write("g", fmt.Sprint(fail))
		w.barrier()
		if text := w.condition(health.FreezeFailed); fail == nil && text != "" || fail != nil && !strings.Contains(text, fail.Error()) {
			t.Errorf("the condition says %q, want %v", text, fail)
		}
	}
}
