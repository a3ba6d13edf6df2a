package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/internal/testfs"
	"repld/journal/catalog"
	"repld/tree"
)

// proves is what the catalog of the tests' primary proves.
func proves(*catalog.Tx) (func(*catalog.Local, *change.Stat) bool, error) {
	return func(l *catalog.Local, st *change.Stat) bool {
		return l.Known() && l.ObjectID == st.ID && l.Ctime == st.Ctime && l.Mtime == st.Mtime && l.Size == st.Size
	}, nil
}

// stored cuts a barrier and stores where it ends, as package capture does.
func (p *primary) stored() change.Barrier {
	p.t.Helper()
	b := p.barrier()
	must(p.t, p.cat.Update(func(tx *catalog.Tx) error { return tx.AddBarrier(b, p.log.End(), catalog.BarrierCut) }))
	return b
}

// diverging is a primary that has changed its trees since a barrier.
type diverging struct {
	*primary
	common change.Barrier
	vol    *tree.Volume
	o      DivergedOptions
}

// diverge lets change write what is captured, and then later what isn't.
func diverge(t testing.TB, before, change, later func(*primary)) *diverging {
	t.Helper()
	p := newPrimary(t)
	return divergeIn(t, p, before, change, later)
}

func divergeIn(t testing.TB, p *primary, before, change, later func(*primary)) *diverging {
	t.Helper()
	before(p)
	d := &diverging{primary: p, common: p.stored()}
	// A file system's clock goes by ticks: what is made in the tick of the cut looks older.
	for ticked := false; !ticked; {
		var now unix.Timespec
		must(t, unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now))
		ticked = time.Unix(now.Unix()).After(d.common.CutAt)
	}
	change(p)
	p.barrier()
	later(p)
	var err error
	d.vol, err = tree.OpenVolume(p.dir, tree.VolumeOptions{})
	must(t, err)
	t.Cleanup(func() { d.vol.Close() })
	d.o = DivergedOptions{
		Trees: []Tree{{Name: "tree", FS: d.vol, Root: d.vol.Root()}}, Log: p.log, Catalog: p.cat, Former: proves,
		Common: d.common.ID, ID: DivergedID(1), Dir: filepath.Join(t.TempDir(), "salvage"),
	}
	return d
}

// kept returns the lines of the manifests of a set, "what path" → content.
func (d *diverging) kept(id string) map[string]string {
	d.t.Helper()
	a := &Applier{trees: d.o.Trees}
	out := map[string]string{}
	must(d.t, a.SalvagedEntries(id, func(e SalvagedEntry) error {
		what, _, _ := strings.Cut(e.Reason, " ")
		content := e.Kind
		if e.Kind == change.KindFile.String() {
			b, err := os.ReadFile(e.Kept)
			must(d.t, err)
			content = string(b)
		}
		out[what+" "+strings.TrimPrefix(e.Path, "tree/")] = content
		return nil
	}))
	return out
}

func beforeDiverging(p *primary) {
	p.files("same", 20)
	for _, name := range []string{"changed", "chmod", "gone", "moved", "dir/inner", "gonedir/file", "late", "lategone", "touched", "moveddir/in"} {
		p.write(name, "content of "+name)
	}
	must(p.t, os.Symlink("target", p.at("link")))
}

func changeDiverging(p *primary) {
	t := p.t
	p.write("changed", "changed here")
	must(t, os.Chmod(p.at("chmod"), 0o600))
	must(t, os.Remove(p.at("gone")))
	p.mv("moved", "moved2")
	must(t, os.RemoveAll(p.at("gonedir")))
	p.write("new/deep/file", "made here")
	must(t, os.Link(p.at("new/deep/file"), p.at("new/second")))
	must(t, os.Remove(p.at("link")))
	must(t, os.Symlink("elsewhere", p.at("link")))
	p.mv("moveddir", "dir/moveddir")
}

func laterDiverging(p *primary) {
	t := p.t
	p.write("late", "never captured")
	must(t, os.Remove(p.at("lategone")))
	p.write("latenew", "made, never captured")
	now := time.Now()
	must(t, os.Chtimes(p.at("touched"), now, now))
	must(t, unix.Mkfifo(p.at("fifo"), 0o600))
	p.write("db", "a database")
	p.write("db-shm", "its index")
}

var wantDiverged = map[string]string{
	"changed changed": "changed here", "changed chmod": "content of chmod", "deleted gone": "none",
	"deleted moved": "none", "changed moved2": "content of moved", "deleted gonedir": "none",
	"created new": "directory", "created new/deep": "directory", "created new/deep/file": "made here", "created new/second": "made here",
	"created link": "symbolic link", "deleted moveddir": "none", "changed dir/moveddir": "directory",
	"changed late": "never captured", "deleted lategone": "none", "created latenew": "made, never captured", "changed touched": "content of touched",
	"created fifo": "fifo", "created db": "a database",
}

func wantKept(t *testing.T, got, want map[string]string) {
	t.Helper()
	for line, content := range want {
		if got[line] != content {
			t.Errorf("%s: found %q, wanted %q", line, got[line], content)
		}
	}
	for line := range got {
		if _, ok := want[line]; !ok {
			t.Errorf("%s: was kept as well", line)
		}
	}
}

// TestDiverged: what was changed, made and taken away after the common barrier is kept,
// captured or not, and nothing else; and the tree is as it was.
func TestDiverged(t *testing.T) {
	d := diverge(t, beforeDiverging, changeDiverging, laterDiverging)
	was := listing(t, d.dir)
	found, err := FindDiverged(t.Context(), d.o)
	must(t, err)
	if entries, err := os.ReadDir(d.vol.OwnPath()); err != nil || len(entries) != 0 {
		t.Errorf("looking has left %v %v", entries, err)
	}
	kept, err := SalvageDiverged(t.Context(), d.o)
	must(t, err)
	if kept.ID != "epoch-1" || kept.Unknown || kept.Deleted != 5 || kept.Created != 8 || kept.Changed != 6 || kept.Files != 9 {
		t.Errorf("found %+v", kept)
	}
	if kept.ID, kept.At = "", found.At; kept != found {
		t.Errorf("kept were %+v, found before %+v", kept, found)
	}
	wantKept(t, d.kept("epoch-1"), wantDiverged)
	if got := listing(t, d.dir); fmt.Sprint(got) != fmt.Sprint(was) {
		t.Errorf("the tree was changed:\n%v\n%v", got, was)
	}
	one, err := os.Stat(filepath.Join(d.vol.OwnPath(), "salvage/epoch-1/files/tree/new/deep/file"))
	must(t, err)
	two, err := os.Stat(filepath.Join(d.vol.OwnPath(), "salvage/epoch-1/files/tree/new/second"))
	must(t, err)
	if !os.SameFile(one, two) {
		t.Error("two names of a file were kept as two files")
	}
	sets, err := (&Applier{trees: d.o.Trees}).Salvages()
	must(t, err)
	if len(sets) != 1 || sets[0].By != "rejoin, epoch 1" || sets[0].Entries != uint64(len(wantDiverged)) || len(sets[0].Reasons) != 3 {
		t.Errorf("listed are %+v", sets)
	}
	var summary Diverged
	b, err := os.ReadFile(filepath.Join(d.o.Dir, divergedSummary))
	must(t, err)
	must(t, json.Unmarshal(b, &summary))
	if summary.ID != "epoch-1" || summary.Common != d.common.ID || summary.Files != kept.Files {
		t.Errorf("the summary is %+v", summary)
	}
}

// TestDivergedStops stops at each point, in each tree and at each object, and wants the
// same set after a repetition, once.
func TestDivergedStops(t *testing.T) {
	d := diverge(t, beforeDiverging, changeDiverging, laterDiverging)
	var points []string
	d.o.Hook = func(point string) error { points = append(points, point); return nil }
	_, err := SalvageDiverged(t.Context(), d.o)
	must(t, err)
	if points[0] != PointFound || points[len(points)-1] != PointNoted {
		t.Fatalf("points %v", points)
	}
	for n := range points {
		must(t, os.RemoveAll(d.o.Dir))
		must(t, tree.RemoveAll(d.vol, tree.InOwn(salvageDir)))
		at := 0
		d.o.Hook = func(string) error {
			if at++; at > n {
				return errCrash
			}
			return nil
		}
		if _, err := SalvageDiverged(t.Context(), d.o); !errors.Is(err, errCrash) {
			t.Fatalf("point %d, %s: %v", n, points[n], err)
		}
		d.o.Hook = nil
		for range 2 {
			kept, err := SalvageDiverged(t.Context(), d.o)
			must(t, err)
			if kept.ID != "epoch-1" {
				t.Errorf("point %d, %s: kept as %q", n, points[n], kept.ID)
			}
		}
		wantKept(t, d.kept("epoch-1"), wantDiverged)
		entries, err := d.vol.ReadDir(tree.InOwn(""))
		must(t, err)
		if len(entries) != 1 {
			t.Errorf("point %d, %s: left over are %v", n, points[n], entries)
		}
	}
}

// TestDivergedAgain: what changed after a set was kept gets another one.
func TestDivergedAgain(t *testing.T) {
	d := diverge(t, beforeDiverging, changeDiverging, laterDiverging)
	_, err := SalvageDiverged(t.Context(), d.o)
	must(t, err)
	d.write("late", "and once more")
	kept, err := SalvageDiverged(t.Context(), d.o)
	must(t, err)
	if got := d.kept(kept.ID); kept.ID != "epoch-1-2" || got["changed late"] != "and once more" {
		t.Errorf("kept as %q: %v", kept.ID, got)
	}
	if got := d.kept("epoch-1"); got["changed late"] != "never captured" {
		t.Errorf("the first set holds %v", got)
	}
}

// TestNothingDiverged: then there is no set.
func TestNothingDiverged(t *testing.T) {
	nothing := func(*primary) {}
	d := diverge(t, beforeDiverging, nothing, nothing)
	kept, err := SalvageDiverged(t.Context(), d.o)
	must(t, err)
	if kept.ID != "" || kept.Changed+kept.Created+kept.Deleted != 0 || kept.Unknown {
		t.Errorf("kept %+v", kept)
	}
	if _, err := os.Stat(filepath.Join(d.vol.OwnPath(), salvageDir)); !os.IsNotExist(err) {
		t.Errorf("a set: %v", err)
	}
}

// TestDivergedUnknown: without the common barrier, or the log behind it, nothing is kept,
// and that is said.
func TestDivergedUnknown(t *testing.T) {
	d := diverge(t, beforeDiverging, changeDiverging, laterDiverging)
	for _, common := range []change.BarrierID{{}, {Epoch: 1, Seq: 77}} {
		d.o.Common = common
		if kept, err := SalvageDiverged(t.Context(), d.o); err != nil || !kept.Unknown || kept.ID != "" {
			t.Errorf("%s: %+v %v", common, kept, err)
		}
	}
	d.o.Common = d.common.ID
	must(t, d.log.Reset(d.log.End()))
	if kept, err := SalvageDiverged(t.Context(), d.o); err != nil || !kept.Unknown {
		t.Errorf("without the log: %+v %v", kept, err)
	}
	if _, err := os.Stat(filepath.Join(d.vol.OwnPath(), salvageDir)); !os.IsNotExist(err) {
		t.Errorf("a set: %v", err)
	}
}

// TestDivergedRoom: what doesn't fit isn't begun; what doesn't fit after all is removed.
// Where data is shared, no room is needed for it.
func TestDivergedRoom(t *testing.T) {
	big := func(p *primary) { p.write("big", string(noise(7, 4<<20))) }
	nothing := func(*primary) {}
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			p := newPrimary(t)
			p.dir = filepath.Join(testfs.Dir(t, kind), "tree")
			must(t, os.Mkdir(p.dir, 0o755))
			d := divergeIn(t, p, beforeDiverging, big, nothing)
			d.o.Reserve = func(*Tree) (uint64, error) {
				free, _, err := d.vol.Root().Space()
				return free - 1<<20, err
			}
			_, err := FindDiverged(t.Context(), d.o)
			if wantErr := kind == "ext4"; errors.Is(err, ErrSalvageRoom) != wantErr {
				t.Fatalf("found: %v", err)
			}
			kept, err := SalvageDiverged(t.Context(), d.o)
			if kind == "xfs" {
				must(t, err)
				if d.kept(kept.ID)["created big"] != string(noise(7, 4<<20)) {
					t.Error("the clone has other content")
				}
				return
			}
			if !errors.Is(err, ErrSalvageRoom) {
				t.Fatalf("salvage: %v", err)
			}
			d.o.Reserve = nil
			d.o.Trees[0].FS = tree.WithHook(d.vol, func(op tree.Op) error {
				if op.Name == "write" && op.Off > 1<<20 {
					return unix.ENOSPC
				}
				return nil
			})
			if _, err := SalvageDiverged(t.Context(), d.o); !errors.Is(err, ErrSalvageRoom) {
				t.Errorf("on a disk that fills: %v", err)
			}
			entries, err := d.vol.ReadDir(tree.InOwn(""))
			must(t, err)
			if slices.ContainsFunc(entries, func(e tree.Entry) bool { return e.Name == divergedDir }) {
				t.Errorf("left over are %v", entries)
			}
		})
	}
}

// TestNodeSet keeps what was added apart from its neighbours.
func TestNodeSet(t *testing.T) {
	s := nodeSet{}
	in := []change.NodeID{1, 63, 64, setPage - 1, setPage, 1 << 40, localNodes}
	for _, id := range in {
		s.add(id)
	}
	for _, id := range in {
		for _, one := range []change.NodeID{id - 1, id, id + 1} {
			if s.has(one) != slices.Contains(in, one) {
				t.Errorf("node %d: found %v", one, s.has(one))
			}
		}
	}
}
