package freeze

import (
	"errors"
	"testing"
	"time"
)

// TestLimit: who forgets to thaw is told so, and nothing stays frozen.
func TestLimit(t *testing.T) {
	r := newRig(t, 100*time.Millisecond)
	for end := time.Now().Add(10 * time.Second); !r.overruns(t); {
		if time.Now().After(end) {
			t.Fatal("no freeze was seen while it lasted")
		}
	}
	r.freezesAgain(t)
}

// overruns freezes and forgets to thaw. It returns false if the machine was too busy for
// that to be seen.
func (r *rig) overruns(t *testing.T) bool {
	t.Helper()
	z, err := r.Freeze()
	if err != nil {
		return false
	}
	defer z.Thaw()
	from := r.number(t)
	<-time.After(20 * time.Millisecond)
	if n := r.number(t); n != from {
		if z.Still() {
			t.Fatalf("it counts on, from %d to %d", from, n)
		}
		return false
	}
	r.goesOn(t)
	if z.Still() {
		t.Error("it counts as frozen")
	}
	stood, err := z.Thaw()
	if since := time.Since(z.begun); !errors.Is(err, ErrOverrun) || stood < 50*time.Millisecond || stood > since { // the limit counts from a little before
		t.Errorf("stood %v of %v, error %v; want %v", stood, since, err, ErrOverrun)
	}
	return true
}

// TestFrozenLate: who is so slow that its time was over before it froze stays within the
// limit all the same.
func TestFrozenLate(t *testing.T) {
	r := newRig(t, 0)
	dog, err := startWatchdog(self("watchdog"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := dog.end(); err != nil {
			t.Error(err)
		}
	}()
	const limit = 10 * time.Millisecond
	if err := dog.arm(r.dir, limit); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		<-time.After(5 * limit)
		if err := set(r.dir, true); err != nil {
			t.Fatal(err)
		}
		r.goesOn(t)
	}
	if late, err := dog.done(); err != nil || late < limit {
		t.Errorf("thawed after %v, %v", late, err)
	}
}

// freezesAgain wants a freeze without fault soon: on a busy machine not every one is.
func (r *rig) freezesAgain(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		z, err := r.Freeze()
		if err == nil {
			_, err = z.Thaw()
		}
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		<-time.After(time.Millisecond)
	}
}
