package capture

import (
	"sync"
	"testing"
	"time"

	"repld/watch"
)

// writing is a rig with a large file that is appended to while it is read, as often as is
// wanted.
type writing struct {
	*rig
	mu    sync.Mutex
	reads []int64 // bytes, of each time it was read from its beginning
	times int     // so many of these have the file grow
	clock *shiftClock
}

// writingSize is more than what is copied before it is cut.
const writingSize = copyMax + 4<<20

func newWriting(t *testing.T) *writing {
	defer func(n uint64) { t.Cleanup(func() { lookEvery = n }) }(lookEvery)
	lookEvery = 1 << 20
	w := &writing{rig: newRig(t, watch.Auto, ""), clock: &shiftClock{}}
	w.rig.clock = w.clock
	w.options = func(o *Options) { o.LateAfter = time.Minute }
	w.up().step()
	w.barrier()
	w.c.onRead = func(_ string, off int64, n int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if off == 0 {
			w.reads = append(w.reads, 0)
		}
		last := len(w.reads) - 1
		w.reads[last] += int64(n)
		if off == 0 && last < w.times {
			w.appendTo("f", []byte("more"))
		}
	}
	w.appendTo("f", noise(11, writingSize))
	return w
}

// TestLargeFileThatIsBeingWritten: what is still being written is not read to its end, and
// so the barrier behind the last write is not kept waiting by a reading in vain.
func TestLargeFileThatIsBeingWritten(t *testing.T) {
	w := newWriting(t)
	w.times = 3
	before := w.log.End().Offset
	w.equals(w.barrier())
	if grew := w.log.End().Offset - before; grew > writingSize*9/8 {
		t.Errorf("the log has grown by %d bytes, want little more than the file's %d", grew, writingSize)
	}
	if len(w.reads) != w.times+1 || w.reads[w.times] < writingSize {
		t.Fatalf("read %d times, %d bytes each, want %d times and %d the last time", len(w.reads), w.reads, w.times+1, writingSize)
	}
	for _, n := range w.reads[:w.times] {
		if n > writingSize*3/4 {
			t.Errorf("%d bytes were read of a file that had changed, want little more than %d", n, lookEvery)
		}
	}
}

// TestLargeFileThatIsWrittenForLong: one that never rests is read to its end, so that
// little is left to be sent when it does.
func TestLargeFileThatIsWrittenForLong(t *testing.T) {
	w := newWriting(t)
	w.times = 1 << 30
	w.step()
	begun := len(w.reads)
	w.times = begun + 1
	w.clock.pass(31 * time.Second)
	w.equals(w.barrier())
	if len(w.reads) != begun+2 || w.reads[begun] < writingSize {
		t.Errorf("after %d times %d bytes were read, want twice all of %d at least", begun, w.reads[begun:], writingSize)
	}
}
