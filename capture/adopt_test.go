package capture

import (
	"errors"
	"strings"
	"testing"
	"time"

	"repld/change"
	"repld/journal/catalog"
	"repld/watch"
)

// leave makes the catalog of a rig that is down what a standby leaves at a promotion.
func (r *rig) leave(settled func(l *catalog.Local) change.Time) (h catalog.Handover) {
	r.t.Helper()
	cat, err := catalog.Open(r.state+"/catalog", catalog.Options{NoSync: true})
	must(r.t, err)
	must(r.t, cat.Update(func(tx *catalog.Tx) error {
		for b := range tx.Barriers() {
			h.Barrier = b.ID
			break
		}
		if h.Position, err = Position(tx); err != nil {
			return err
		}
		for id, n := range tx.Nodes(0) {
			if at := settled(&n.Local); at.Compare(h.Settled) > 0 {
				h.Settled = at
			}
			n.Local.Racy = false // as package apply records it
			must(r.t, tx.SetLocal(id, n.Local))
		}
		for _, key := range []string{stateScanned, statePosition, stateRootID + "tree", stateBootID} {
			must(r.t, tx.Put(key, nil))
		}
		must(r.t, tx.AddBarrier(change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: 99}}}, change.LogPosition{}, catalog.BarrierApplied))
		return tx.SetHandover(&h)
	}))
	must(r.t, cat.Close())
	return h
}

// TestAdoptedCatalog: of a catalog that a standby left only those files are read that
// changed since, or right before the last publish; and the epoch begins with a barrier.
func TestAdoptedCatalog(t *testing.T) {
	for _, test := range []struct {
		name    string
		settled time.Duration // after the files were published
		reads   string
	}{
		{"settled", 3 * time.Second, "changed"},
		{"young", time.Second, "changed kept"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, watch.Inotify, "").up()
			big := strings.Repeat("0123456789abcdef", smallFile/16+1)
			r.write("kept", big)
			r.write("changed", big)
			first := r.barrier()
			r.down()
			r.leave(func(l *catalog.Local) change.Time { return change.TimeOf(l.Ctime.Time().Add(test.settled)) })
			r.write("changed", big+"more")
			r.write("new", "new")
			r.options = func(o *Options) { o.Epoch, o.BootID = 2, "another" }
			r.up()
			read := map[string]bool{}
			r.c.onRead = func(path string, _ int64, _ int) { read[path] = true }
			if s := r.c.State(); !s.Scanned || s.Newest.ID != first.ID {
				t.Errorf("it began with %+v, wanted barrier %s", s, first.ID)
			}
			b := r.barrier()
			if want := (change.BarrierID{Epoch: 2, Seq: 1}); b.ID != want || b.Files != 3 {
				t.Errorf("found barrier %s with %d files, wanted %s with 3", b.ID, b.Files, want)
			}
			var names []string
			for _, name := range []string{"changed", "kept"} {
				if read[name] {
					names = append(names, name)
				}
			}
			if got := strings.Join(names, " "); got != test.reads {
				t.Errorf("read %q, wanted %q", got, test.reads)
			}
			r.down()
		})
	}
}

// TestEpochBeginsWithBarrier: also where nothing has changed.
func TestEpochBeginsWithBarrier(t *testing.T) {
	r := newRig(t, watch.Inotify, "").up()
	r.write("a", "a")
	r.barrier()
	r.down()
	r.options = func(o *Options) { o.Epoch = 3 }
	r.up()
	if b := r.barrier(); b.ID != (change.BarrierID{Epoch: 3, Seq: 1}) {
		t.Errorf("found barrier %s", b.ID)
	}
	r.down()
	r.options = func(o *Options) { o.Epoch = 2 }
	defer func() { r.options = nil }()
	cat, err := catalog.Open(r.state+"/catalog", catalog.Options{NoSync: true})
	must(t, err)
	defer cat.Close()
	if err := cat.Claim(2); !errors.Is(err, catalog.ErrEpoch) {
		t.Errorf("an epoch that is over: %v", err)
	}
}

// TestKnowledge: what a stat proves, and what it doesn't.
func TestKnowledge(t *testing.T) {
	at := func(s int64) change.Time { return change.Time{Sec: s} }
	local := catalog.Local{ObjectID: change.ObjectID{Ino: 7}, Ctime: at(1000), Mtime: at(900), Size: 5, Nlink: 1, Captured: at(1010)}
	stat := func(change func(*change.Stat)) change.Stat {
		return statOf(local, change)
	}
	for _, test := range []struct {
		name string
		k    Knowledge
		l    func(*catalog.Local)
		s    func(*change.Stat)
		want bool
	}{
		{"the same", Knowledge{}, nil, nil, true},
		{"another size", Knowledge{}, nil, func(s *change.Stat) { s.Size++ }, false},
		{"another change time", Knowledge{}, nil, func(s *change.Stat) { s.Ctime = at(1001) }, false},
		{"another object", Knowledge{}, nil, func(s *change.Stat) { s.ID.Ino++ }, false},
		{"other blocks", Knowledge{}, nil, func(s *change.Stat) { s.Blocks++ }, true},
		{"racy", Knowledge{}, func(l *catalog.Local) { l.Racy = true }, nil, false},
		{"young", Knowledge{}, func(l *catalog.Local) { l.Captured = at(1001) }, nil, false},
		{"young, and settled", Knowledge{settled: at(1002)}, func(l *catalog.Local) { l.Captured = at(1001) }, nil, true},
		{"young, and older than the cut", Knowledge{cut: at(1002)}, func(l *catalog.Local) { l.Captured = at(1001) }, nil, true},
		{"young, and not much older than the cut", Knowledge{cut: at(1001)}, func(l *catalog.Local) { l.Captured = at(1001) }, nil, false},
		{"changing without events", Knowledge{cut: at(2000), unseen: map[change.ObjectID]struct{}{{Ino: 7}: {}}}, nil, nil, false},
		{"before another boot", Knowledge{reread: at(1001)}, nil, nil, true},
		{"shortly before another boot", Knowledge{reread: at(1000)}, nil, nil, false},
	} {
		l := local
		if test.l != nil {
			test.l(&l)
		}
		st := stat(test.s)
		if got := test.k.Proves(&l, &st); got != test.want {
			t.Errorf("%s: found %v", test.name, got)
		}
	}
}

func statOf(l catalog.Local, do func(*change.Stat)) change.Stat {
	s := change.Stat{ID: l.ObjectID, Kind: change.KindFile, Nlink: l.Nlink, Size: l.Size, Mtime: l.Mtime, Ctime: l.Ctime, Blocks: l.Blocks}
	if do != nil {
		do(&s)
	}
	return s
}

// TestKnowledgeOf: the reference for another boot is the newest barrier, but for one
// of another node's clock.
func TestKnowledgeOf(t *testing.T) {
	cat, err := catalog.Open(t.TempDir()+"/catalog", catalog.Options{NoSync: true})
	must(t, err)
	defer cat.Close()
	cut := time.Unix(5000, 0)
	add := func(id change.BarrierID) {
		must(t, cat.Update(func(tx *catalog.Tx) error {
			return tx.AddBarrier(change.Barrier{Certificate: change.Certificate{ID: id, CutAt: cut}}, change.LogPosition{}, barrierCut)
		}))
	}
	reread := func() (k Knowledge) {
		must(t, cat.View(func(tx *catalog.Tx) (err error) { k, err = KnowledgeOf(tx, "now"); return err }))
		return k
	}
	add(change.BarrierID{Epoch: 1, Seq: 1})
	if k := reread(); k.reread.Sec != 5000-60 || k.cut.Sec != 5000 {
		t.Errorf("found %+v", k)
	}
	must(t, cat.Update(func(tx *catalog.Tx) error {
		return tx.Put(stateSettled, settled{change.Time{Sec: 4000}, change.BarrierID{Epoch: 1, Seq: 1}}.encode())
	}))
	if k := reread(); k.reread.Sec != 4000-60 || k.settled.Sec != 4000 || k.cut != (change.Time{}) {
		t.Errorf("after a promotion: found %+v", k)
	}
	add(change.BarrierID{Epoch: 2, Seq: 1})
	if k := reread(); k.reread.Sec != 5000-60 || k.cut.Sec != 5000 {
		t.Errorf("after a barrier of its own: found %+v", k)
	}
	must(t, cat.Update(func(tx *catalog.Tx) error { return tx.Put(stateBootID, []byte("now")) }))
	if k := reread(); (k.reread != change.Time{}) {
		t.Errorf("in the same boot: found %+v", k)
	}
	must(t, cat.Update(func(tx *catalog.Tx) error { return tx.Put(stateSettled, []byte{1}) }))
	err = cat.View(func(tx *catalog.Tx) error { _, err := KnowledgeOf(tx, "now"); return err })
	if !errors.Is(err, catalog.ErrDamaged) {
		t.Errorf("damaged: %v", err)
	}
}

// TestUnseenProvesNothing: a file that the newest barriers name as one that can change
// without events is known by no stat; and a cut without events proves nothing at all.
func TestUnseenProvesNothing(t *testing.T) {
	r := newRig(t, watch.Inotify, "").up()
	r.write("dir/mapped", "mapped")
	r.write("dir/plain", "plain")
	b := r.barrier()
	stat := func(name string) change.Stat {
		st, err := r.c.readers[0].Lstat(name)
		must(t, err)
		return st
	}
	mapped, plain := stat("dir/mapped"), stat("dir/plain")
	proves := func(rung change.Rung) (m, p bool) {
		next := b
		next.ID.Seq++
		next.Rung, next.CutAt = rung, plain.Ctime.Time().Add(3*time.Second)
		next.Uncovered = []string{"tree/dir/mapped", "database orders", "tree/gone"}
		must(t, r.catalog.Update(func(tx *catalog.Tx) error {
			root, _ := tx.Lookup(change.GroupNode, "tree")
			for _, st := range []change.Stat{mapped, plain} {
				node, ok := tx.ByObject(root, st.ID)
				if !ok {
					t.Fatal("it wasn't captured")
				}
				must(t, tx.SetLocal(node, catalog.LocalOf(root, &st, st.Ctime.Time().Add(time.Second))))
			}
			return tx.AddBarrier(next, r.log.End(), barrierCut)
		}))
		must(t, r.catalog.View(func(tx *catalog.Tx) error {
			k, err := KnowledgeOf(tx, "boot")
			must(t, err)
			root, _ := tx.Lookup(change.GroupNode, "tree")
			for i, st := range []change.Stat{mapped, plain} {
				node, _ := tx.ByObject(root, st.ID)
				local, _, err := tx.Local(node)
				must(t, err)
				*[]*bool{&m, &p}[i] = k.Proves(&local, &st)
			}
			return nil
		}))
		return m, p
	}
	if m, p := proves(change.RungOptimistic); m || !p {
		t.Errorf("of a cut by events: the mapped file is known: %v, the other one: %v", m, p)
	}
	if m, p := proves(change.RungPolled); m || p {
		t.Errorf("of a cut by polling: the mapped file is known: %v, the other one: %v", m, p)
	}
}
