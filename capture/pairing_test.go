package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/health"
	"repld/journal/catalog"
	"repld/watch"
)

// pairRig is a rig with two databases, named out of order, whose first barrier is cut.
func pairRig(t *testing.T, b watch.Backend) (r *rig, databases [2]*fakeDatabase, clock *shiftClock) {
	clock, databases = &shiftClock{}, [2]*fakeDatabase{{}, {}}
	r = newRig(t, b, "")
	r.clock = clock
	r.options = func(o *Options) {
		o.Databases = []Database{{Name: "shop", Engine: "fake", Source: databases[1]}, {Name: "app", Engine: "fake", Source: databases[0]}}
	}
	r.write("f", "before")
	r.up().step()
	r.barrier()
	return r, databases, clock
}

func (d *fakeDatabase) set(do func(d *fakeDatabase)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do(d)
}

// offsets returns the positions in a barrier, after a look at everything else there.
func offsets(t *testing.T, b change.Barrier) (at [2]uint64) {
	t.Helper()
	if len(b.Databases) != 2 {
		t.Fatalf("barrier %v has the databases %+v", b.ID, b.Databases)
	}
	for i, name := range []string{"app", "shop"} {
		at[i] = b.Databases[i].Position.Offset
		want := change.DatabasePosition{Name: name, Engine: "fake", Position: change.StreamPosition{Chapter: 1, Offset: at[i]},
			Retain: change.StreamPosition{Chapter: 1, Offset: at[i] / 2}}
		if b.Databases[i] != want {
			t.Errorf("barrier %v has %+v, want %+v", b.ID, b.Databases[i], want)
		}
	}
	return at
}

// TestBarrierHoldsPositions: every barrier has all databases, by name, in the state,
// the log and the catalog.
func TestBarrierHoldsPositions(t *testing.T) {
	both(t, func(t *testing.T, backend watch.Backend) {
		r, d, _ := pairRig(t, backend)
		from := r.log.End().Offset
		for range 5 {
			d[0].commit(0, 1)
		}
		d[1].commit(0, 1)
		r.write("f", "after")
		b := r.barrier()
		if at := offsets(t, b); at != [2]uint64{5, 1} {
			t.Errorf("the positions are %v", at)
		}
		if got := d[0].confirmed[len(d[0].confirmed)-1]; got != b.ID {
			t.Errorf("confirmed for %v, want %v", got, b.ID)
		}
		rd, err := r.log.Reader(from)
		must(t, err)
		found := false
		for {
			rec, _, err := rd.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			if logged, ok := rec.(*change.Barrier); ok && logged.ID == b.ID {
				found = reflect.DeepEqual(*logged, b)
			}
		}
		if !found {
			t.Errorf("the log doesn't have %+v", b)
		}
		must(t, r.catalog.View(func(tx *catalog.Tx) error {
			stored, ok, err := tx.Barrier(b.ID)
			if !ok || !reflect.DeepEqual(stored.Barrier, b) {
				t.Errorf("the catalog has %+v", stored)
			}
			return err
		}))
	})
}

// TestIdleDatabases: as long as nothing has moved no barrier is cut, and the newest is
// confirmed; a commit alone makes one due.
func TestIdleDatabases(t *testing.T) {
	both(t, func(t *testing.T, backend watch.Backend) {
		r, d, _ := pairRig(t, backend)
		first := r.c.State()
		for range 3 {
			r.step()
		}
		if s := r.c.State(); s.Newest.ID != first.Newest.ID || s.ConfirmedAt <= first.ConfirmedAt || s.Pending != 0 {
			t.Errorf("at rest it went from %+v to %+v", first, s)
		}
		d[1].commit(0, 1)
		r.step()
		s := r.c.State()
		if at := offsets(t, s.Newest); s.Newest.ID == first.Newest.ID || at != [2]uint64{0, 1} {
			t.Errorf("after a commit the newest barrier is %+v", s.Newest)
		}
		if s.Pending != 0 {
			t.Errorf("%d are pending", s.Pending)
		}
		for range 3 {
			r.step()
		}
		if now := r.c.State().Newest; now.ID != s.Newest.ID {
			t.Errorf("behind %v came %v though nothing moved", s.Newest.ID, now.ID)
		}
	})
}

// TestDatabaseDown: while a database doesn't answer files stream on without a
// barrier, nothing is confirmed, and the barrier is late by its name.
func TestDatabaseDown(t *testing.T) {
	both(t, func(t *testing.T, backend watch.Backend) {
		for _, changes := range []bool{false, true} {
			r, d, clock := pairRig(t, backend)
			first, end := r.c.State(), r.log.End().Offset
			d[1].set(func(d *fakeDatabase) { d.fail = errors.New("connection refused") })
			if changes {
				r.write("f", "something else")
			}
			r.step()
			clock.pass(time.Minute)
			r.step()
			s := r.c.State()
			if s.Newest.ID != first.Newest.ID || s.ConfirmedAt != first.ConfirmedAt || s.Pending == 0 || s.Oldest < first.ConfirmedAt {
				t.Errorf("without a position it went from %+v to %+v", first, s)
			}
			if changes != (r.log.End().Offset > end) {
				t.Errorf("the log went from %d to %d", end, r.log.End().Offset)
			}
			r.standing("down", health.BarrierLate)
			if text := r.condition(health.BarrierLate); !strings.Contains(text, "could not read the position of database shop: connection refused") {
				t.Error(text)
			}
			if _, err := r.try(0); err == nil {
				t.Error("a barrier was told to hold everything")
			}
			d[1].set(func(d *fakeDatabase) { d.fail = nil })
			r.step()
			if now := r.c.State(); now.Newest.ID == first.Newest.ID || now.Pending != 0 {
				t.Errorf("after that the newest barrier is %+v, %d pending", now.Newest, now.Pending)
			}
			offsets(t, r.c.State().Newest)
			r.standing("back")
			r.down()
		}
	})
}

// TestUnconfirmedPosition: no barrier holds a position that its database doesn't
// confirm, and what was to be in it is in the next, though the database rests.
func TestUnconfirmedPosition(t *testing.T) {
	r, d, clock := pairRig(t, watch.Auto)
	first := r.c.State()
	d[1].set(func(d *fakeDatabase) { d.refuse = errors.New("the disk is full") })
	d[0].commit(0, 1) // rests from the confirmation on
	r.step()
	clock.pass(time.Minute)
	r.step()
	if s := r.c.State(); s.Newest.ID != first.Newest.ID || s.ConfirmedAt != first.ConfirmedAt || s.Pending != 1 {
		t.Errorf("without a confirmation it went from %+v to %+v", first, s)
	}
	if text := r.condition(health.BarrierLate); !strings.Contains(text, "could not confirm the position of database shop: the disk is full") {
		t.Error(text)
	}
	if reading, err := d[0].Position(context.Background()); err != nil || reading.Moved {
		t.Fatalf("%+v: %v", reading, err)
	}
	d[1].set(func(d *fakeDatabase) { d.refuse = nil })
	r.step()
	if at := offsets(t, r.c.State().Newest); at != [2]uint64{1, 0} || r.c.State().Newest.ID == first.Newest.ID {
		t.Errorf("the newest barrier is %+v", r.c.State().Newest)
	}
	r.standing("confirmed")
}

// TestDatabaseRestarts: a position of a server that is gone is read anew, with another
// instant for the files.
func TestDatabaseRestarts(t *testing.T) {
	both(t, func(t *testing.T, backend watch.Backend) {
		r, d, _ := pairRig(t, backend)
		first := r.c.State().Newest.ID
		restarts := 0
		d[0].onPosition = func() {
			if restarts++; restarts == 2 { // the first look is for whether anything has moved
				d[0].set(func(d *fakeDatabase) { d.server++; d.commits = d.commits[:1] })
				d[0].commit(0, 4)
				d[0].commit(0, 5)
			}
		}
		d[0].commit(0, 1)
		d[0].commit(0, 2)
		r.step()
		b := r.c.State().Newest
		if at := offsets(t, b); b.ID == first || at != [2]uint64{3, 0} {
			t.Errorf("the newest barrier is %+v", b)
		}
		if restarts < 3 {
			t.Errorf("the position was read %d times", restarts)
		}
		r.standing("restarted")
	})
}

// TestFilesChangeInEveryWindow: if a file changes whenever positions are read there is
// no barrier; once one window is quiet it holds all that came before.
func TestFilesChangeInEveryWindow(t *testing.T) {
	both(t, func(t *testing.T, backend watch.Backend) {
		r, d, clock := pairRig(t, backend)
		first := r.c.State()
		n := 0
		d[0].onPosition = func() {
			n++
			r.write(fmt.Sprintf("w/%d", n%5), fmt.Sprint(n))
			d[0].commit(0, uint64(n))
		}
		r.write("f", "after")
		r.step()
		clock.pass(time.Minute)
		r.step()
		if s := r.c.State(); s.Newest.ID != first.Newest.ID || s.Pending == 0 {
			t.Errorf("without a quiet window it went from %+v to %+v", first, s)
		}
		if text := r.condition(health.BarrierLate); !strings.Contains(text, unquiet) {
			t.Error(text)
		}
		if n < 3 {
			t.Errorf("the position was read %d times", n)
		}
		stop := n + 3
		d[0].onPosition = func() {
			if n++; n <= stop {
				r.write("w/0", fmt.Sprint(n))
				d[0].commit(0, uint64(n))
			}
		}
		r.step()
		b := r.c.State().Newest
		if at := offsets(t, b); b.ID == first.Newest.ID || at[0] != uint64(stop) {
			t.Errorf("after %d readings the newest barrier is %+v", n, b)
		}
		r.equals(b)
		r.standing("quiet")
	})
}

// ebbing writes new files before each drain, half as many each time until few are left
// and then none, and lets time pass with each.
type ebbing struct {
	watch.Watcher
	r     *rig
	clock *shiftClock
	files int // before the next drain
}

// Drain implements [watch.Watcher].
func (e *ebbing) Drain(ctx context.Context, set *watch.Set) (watch.Sync, error) {
	for n := range e.files {
		e.r.write(fmt.Sprintf("e%d-%d", e.files, n), "x")
		e.clock.pass(2 * time.Millisecond)
	}
	if e.files /= 2; e.files <= fewLeft {
		e.files = 0
	}
	return e.Watcher.Drain(ctx, set)
}

// TestWindowBehindLongPasses: where what changes while files are captured becomes less
// with every pass, a round goes on to its pairing window, however long the passes take.
func TestWindowBehindLongPasses(t *testing.T) {
	both(t, func(t *testing.T, backend watch.Backend) {
		r, _, clock := pairRig(t, backend)
		for n := range 256 {
			r.write(fmt.Sprintf("f%d", n), "after")
		}
		sync, err := r.c.drain(t.Context())
		must(t, err)
		ebb := &ebbing{Watcher: r.c.opts.Watcher, r: r, clock: clock, files: 128}
		r.c.opts.Watcher = ebb
		round, _, err := r.c.round(t.Context(), sync, roundKind{})
		must(t, err)
		if !round.fineTimes[0] {
			t.Skip("needs a file system with fine time stamps")
		}
		if ebb.files > 0 || !round.paired() {
			t.Errorf("the round has positions: %v; it ended when %d files were left to be written", round.paired(), ebb.files)
		}
	})
}

// TestConfirmedUpToThePosition: what is committed behind the reading isn't told to be
// in the barrier.
func TestConfirmedUpToThePosition(t *testing.T) {
	d := &fakeDatabase{}
	r := newRig(t, watch.Auto, "")
	r.options = func(o *Options) { o.Databases = []Database{{Name: "app", Engine: "fake", Source: d}} }
	r.up().step()
	r.barrier()
	d.commit(0, 1)
	calls, committed := 0, time.Duration(0)
	d.onPosition = func() {
		if calls++; calls == 2 { // the first look is for whether anything has moved
			d.commit(0, 2)
			committed = r.c.opts.Clock.Mono()
		}
	}
	r.step()
	s := r.c.State()
	if len(s.Newest.Databases) != 1 || s.Newest.Databases[0].Position.Offset != 1 || s.ConfirmedAt >= committed {
		t.Errorf("%+v was confirmed as of %v, a commit at %v is in no barrier", s.Newest, s.ConfirmedAt, committed)
	}
	r.step()
	if s := r.c.State(); s.Newest.Databases[0].Position.Offset != 2 {
		t.Errorf("the newest barrier is %+v", s.Newest)
	}
}

func TestDatabaseNames(t *testing.T) {
	for _, names := range [][]string{{""}, {"a", "b", "a"}} {
		r := newRig(t, watch.Auto, "").up()
		o := r.c.opts
		for _, name := range names {
			o.Databases = append(o.Databases, Database{Name: name, Source: &fakeDatabase{}})
		}
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("database %q", names[0])) {
			t.Errorf("%q: %v", names, err)
		}
	}
}

func TestOnlyRestarted(t *testing.T) {
	restarted, other := fmt.Errorf("database a: %w", dblog.ErrRestarted), errors.New("database b: down")
	for want, errs := range map[bool][]error{
		true:  {restarted, errors.Join(restarted), errors.Join(restarted, restarted)},
		false: {other, errors.Join(restarted, other)},
	} {
		for _, err := range errs {
			if onlyRestarted(err) != want {
				t.Errorf("%v: want %v", err, want)
			}
		}
	}
}
