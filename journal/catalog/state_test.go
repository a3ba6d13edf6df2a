package catalog

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"repld/change"
)

func TestBarriers(t *testing.T) {
	c := fresh(t)
	stored := func(n uint64) StoredBarrier {
		s := StoredBarrier{
			Barrier: change.Barrier{Certificate: change.Certificate{
				ID: change.BarrierID{Epoch: change.Epoch(1 + n/3), Seq: n}, CutAt: time.Unix(-5, 7).UTC(), Tree: change.Digest{1},
				Portable: change.Digest{2}, Files: 3, Bytes: 4, Rung: change.RungPolled, Stall: 5, Uncovered: []string{"tree/a", "tree/b"},
			}, Chain: change.Digest{3}},
			End:   change.LogPosition{Incarnation: change.IncarnationID{4}, Offset: 1000 + n, Chain: change.Digest{5}},
			State: BarrierReceived,
		}
		for i := range n % 3 {
			s.Databases = append(s.Databases, change.DatabasePosition{Name: string(rune('a' + i)), Engine: "e",
				Position: change.StreamPosition{Chapter: 1, Offset: n}, Retain: change.StreamPosition{Offset: i}})
		}
		return s
	}
	must(t, c.Update(func(tx *Tx) error {
		for n := range uint64(7) {
			s := stored(n)
			if err := tx.AddBarrier(s.Barrier, s.End, s.State); err != nil {
				return err
			}
		}
		return tx.PruneBarriers(5)
	}))
	must(t, c.UpdateNext(func(tx *Tx) error { return tx.SetBarrierState(stored(6).ID, BarrierApplied) }))
	must(t, c.ViewNext(func(tx *Tx) error {
		n := uint64(6)
		for got := range tx.Barriers() {
			want := stored(n)
			if n == 6 {
				want.State = BarrierApplied
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("barrier %d: found %+v, wanted %+v", n, got, want)
			}
			n--
		}
		if n != 1 {
			t.Errorf("the barriers go down to %d, wanted 2", n+1)
		}
		return nil
	}))
}

func TestStateFollowsTheOverlay(t *testing.T) {
	c := fresh(t)
	get := func(view func(func(*Tx) error) error) (v string) {
		must(t, view(func(tx *Tx) error { v = string(tx.Get("key")); return nil }))
		return v
	}
	put := func(v string) {
		must(t, c.UpdateNext(func(tx *Tx) error { return tx.Put("key", []byte(v)) }))
	}
	put("one")
	if base, next := get(c.View), get(c.ViewNext); base != "" || next != "one" {
		t.Errorf("before the merge: base %q, overlay %q", base, next)
	}
	must(t, c.MergeNext(t.Context()))
	put("two")
	must(t, c.DropNext())
	if base, next := get(c.View), get(c.ViewNext); base != "one" || next != "one" {
		t.Errorf("after merge and drop: base %q, overlay %q", base, next)
	}
	put("")
	must(t, c.MergeNext(t.Context()))
	if base := get(c.View); base != "" {
		t.Errorf("deleted: base %q", base)
	}
}

func TestLocal(t *testing.T) {
	c := fresh(t)
	apply(t, c, small...)
	at := time.Unix(1000, 0)
	st := change.Stat{ID: change.ObjectID{Ino: 5, Birth: change.Time{Sec: 1}}, Ctime: change.Time{Sec: 900}, Size: 3, Nlink: 2, Blocks: 8}
	l := LocalOf(0, &st, at)
	must(t, c.Update(func(tx *Tx) error {
		if err := tx.SetLocal(3, l); err != nil {
			return err
		}
		if id, ok := tx.ByObject(1, st.ID); !ok || id != 3 {
			t.Errorf("object: found node %d %v", id, ok)
		}
		if _, ok := tx.ByObject(1, change.ObjectID{Ino: 5, Birth: change.Time{Sec: 2}}); ok {
			t.Error("a later object with the same inode is taken for the earlier one")
		}
		return tx.SetLocal(4, l) // the inode has another node now
	}))
	must(t, c.Update(func(tx *Tx) error {
		if err := tx.SetLocal(3, Local{}); err != nil {
			return err
		}
		if id, ok := tx.ByInode(1, 5); !ok || id != 4 {
			t.Errorf("inode: found node %d %v", id, ok)
		}
		got, _, err := tx.Local(4)
		if !got.Same(&st) || got.Tree != 1 {
			t.Errorf("snapshot %+v isn't the same as %+v", got, st)
		}
		other := st
		other.Ctime.Nsec++
		if got.Same(&other) || (Local{}).Same(&change.Stat{}) {
			t.Error("another version is taken for the same")
		}
		if racy := LocalOf(1, &st, st.Ctime.Time()); racy.Same(&st) {
			t.Error("a racy snapshot is relied on")
		}
		must(t, err)
		if err := tx.Apply(&change.Put{Node: 9, Kind: change.KindFile}); err != nil {
			return err
		}
		if err := tx.SetLocal(9, l); !errors.Is(err, ErrNoTree) {
			t.Errorf("node without a name: error %v, wanted ErrNoTree", err)
		}
		return nil
	}))
	// Under an overlay only what that leaves alone may be changed in the base.
	must(t, c.UpdateNext(func(tx *Tx) error {
		return tx.Apply(&change.Put{Node: 3, Kind: change.KindFile, Meta: meta(0o600)})
	}))
	must(t, c.Update(func(tx *Tx) error {
		if err := tx.SetLocal(3, l); !errors.Is(err, ErrNextPending) {
			t.Errorf("error %v, wanted ErrNextPending", err)
		}
		return tx.SetLocal(2, LocalOf(0, &change.Stat{ID: change.ObjectID{Ino: 6}}, at))
	}))
}
