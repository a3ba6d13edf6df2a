package apply

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"repld/change"
	"repld/health"
)

// put writes into the standby's tree, as nobody should.
func (s *standby) put(path, data string) {
	s.t.Helper()
	must(s.t, os.WriteFile(filepath.Join(s.dir, path), []byte(data), 0o644))
}

func (s *standby) has(code health.Code) bool {
	for _, c := range s.board.List() {
		if c.Code == code {
			return true
		}
	}
	return false
}

// TestForeignWrites: what somebody wrote into the standby's tree is set aside,
// never deleted, and the barrier is exact nevertheless.
func TestForeignWrites(t *testing.T) {
	p := newPrimary(t)
	for _, name := range []string{"replaced", "removed", "moved", "dir/known", "meta", "linked", "patched"} {
		p.write(name, "original "+name)
	}
	must(t, os.Link(p.at("linked"), p.at("linked2")))
	s := seeded(t, p)
	for _, name := range []string{"replaced", "removed", "moved", "dir/known", "dir/unknown", "new", "meta", "linked"} {
		s.put(name, "foreign "+name)
	}
	must(t, os.Mkdir(filepath.Join(s.dir, "newdir"), 0o700))
	s.put("newdir/inside", "foreign newdir/inside")

	p.write("replaced", "the barrier's")
	must(t, os.Remove(p.at("removed")))
	p.mv("moved", "elsewhere")
	must(t, os.RemoveAll(p.at("dir")))
	p.write("new", "the barrier's")
	p.write("newdir", "a file")
	must(t, os.Chmod(p.at("meta"), 0o600))
	must(t, os.Remove(p.at("linked2")))
	s.sync(p)
	same(t, p, s)
	kept := map[string]bool{}
	for _, data := range salvagedFiles(t, s) {
		kept[data] = true
	}
	for _, name := range []string{"replaced", "removed", "moved", "dir/known", "dir/unknown", "new", "newdir/inside", "meta", "linked"} {
		if !kept["foreign "+name] {
			t.Errorf("what somebody wrote to %q is lost", name)
		}
	}
	if !s.has(health.ForeignWrite) {
		t.Error("no foreign-write condition")
	}
	must(t, s.Resume(false))
	if s.has(health.ForeignWrite) {
		t.Error("foreign-write stands after resume")
	}
}

// TestDirectoryTaken: somebody removed or replaced a directory that a barrier
// works in; the tree is repaired first.
func TestDirectoryTaken(t *testing.T) {
	p := newPrimary(t)
	p.write("gone/a", "a")
	p.write("gone/deep/b", "b")
	p.write("replaced/c", "c")
	p.write("moved/d", "d")
	s := seeded(t, p)
	must(t, os.RemoveAll(filepath.Join(s.dir, "gone")))
	must(t, os.Rename(filepath.Join(s.dir, "replaced"), filepath.Join(s.dir, "aside")))
	s.put("replaced", "a file")
	must(t, os.RemoveAll(filepath.Join(s.dir, "moved")))
	p.write("gone/deep/new", "new")
	p.write("replaced/c", "c2")
	p.mv("moved", "gone/moved")
	s.sync(p)
	// What nothing touched is found by verification.
	_, err := s.Verify(t.Context(), VerifyOptions{Repair: true})
	must(t, err)
	same(t, p, s)
	if !s.Paused() && !strings.Contains(strings.Join(values(salvagedFiles(t, s)), " "), "a file") {
		t.Error("the foreign file isn't in salvage")
	}
}

// TestDirectoryTakenForGood: the same, and what was in it has changed on the primary
// since, so that nobody has what the applied barrier says. A base helps.
func TestDirectoryTakenForGood(t *testing.T) {
	p := newPrimary(t)
	for _, name := range []string{"gone/a", "gone/b", "1", "2", "3", "4", "5", "6", "7", "8", "9"} {
		p.write(name, "content of "+name)
	}
	s := seeded(t, p)
	must(t, os.RemoveAll(filepath.Join(s.dir, "gone")))
	for digest := range p.store {
		p.gone[digest] = true
	}
	p.write("gone/a", "now another")
	p.write("gone/new", "new")
	p.barrier()
	s.receive(p)
	if err := s.Step(t.Context()); !errors.Is(err, ErrNeedsSeed) || !s.NeedsSeed() {
		t.Fatalf("the step ended with %v, needs a seed: %v", err, s.NeedsSeed())
	}
	clear(p.gone)
	must(t, s.Seed(t.Context(), p.manifest()))
	must(t, s.Step(t.Context()))
	p.barrier()
	s.receive(p)
	must(t, s.Step(t.Context()))
	same(t, p, s)
}

func values(m map[string]string) (out []string) {
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// TestRootTaken: an unmounted or replaced root stops everything.
func TestRootTaken(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "a")
	s := seeded(t, p)
	must(t, os.Rename(s.dir, s.dir+"-away"))
	must(t, os.Mkdir(s.dir, 0o755))
	p.write("a", "b")
	p.barrier()
	s.receive(p)
	if err := s.Step(t.Context()); err == nil {
		t.Fatal("applied into a directory that isn't the tree")
	}
	must(t, os.Remove(s.dir))
	must(t, os.Rename(s.dir+"-away", s.dir))
	must(t, s.Step(t.Context()))
	same(t, p, s)
}

// TestHostile: records that no honest primary writes are refused, and the tree
// stays as it is.
func TestHostile(t *testing.T) {
	root := change.NodeID(1)
	file := &change.Put{Node: 100, Kind: change.KindFile}
	dir := &change.Put{Node: 101, Kind: change.KindDir}
	for name, records := range map[string][]change.Record{
		"dotdot":         {file, &change.Link{Parent: root, Name: "..", Node: 100}},
		"slash":          {file, &change.Link{Parent: root, Name: "a/../../b", Node: 100}},
		"zero":           {file, &change.Link{Parent: root, Name: "a\x00b", Node: 100}},
		"long":           {file, &change.Link{Parent: root, Name: strings.Repeat("n", 256), Node: 100}},
		"no parent":      {file, &change.Link{Parent: 999, Name: "a", Node: 100}},
		"file parent":    {file, &change.Link{Parent: 100, Name: "a", Node: 100}},
		"cycle":          {dir, &change.Put{Node: 102, Kind: change.KindDir}, &change.Link{Parent: 101, Name: "a", Node: 102}, &change.Link{Parent: 102, Name: "b", Node: 101}},
		"two names":      {dir, &change.Link{Parent: root, Name: "a", Node: 101}, &change.Link{Parent: root, Name: "b", Node: 101}},
		"another tree":   {dir, &change.Link{Parent: change.GroupNode, Name: "other", Node: 101}},
		"tree vanishes":  {&change.Unlink{Parent: change.GroupNode, Name: "tree"}},
		"tree replaced":  {dir, &change.Link{Parent: change.GroupNode, Name: "tree", Node: 101}},
		"group as node":  {&change.Put{Node: 0, Kind: change.KindDir}},
		"another kind":   {&change.Put{Node: root, Kind: change.KindFile}},
		"splice range":   {file, &change.Splice{Node: 100, At: 5, Remove: 5}},
		"unlink nothing": {&change.Unlink{Parent: root, Name: "nobody"}},
		"huge id":        {&change.Put{Node: 1 << 63, Kind: change.KindFile}},
		"wrong digest":   {file, &change.Link{Parent: root, Name: "a", Node: 100}, &change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: 99}, Tree: change.Digest{1}}}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPrimary(t)
			p.write("a", "a")
			s := seeded(t, p)
			must(t, s.log.SetIncarnation(change.NewIncarnation()))
			for _, r := range records {
				if _, err := s.log.Append(r); err != nil {
					return // the log refuses it already
				}
			}
			b := &change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: 100}}}
			if _, err := s.log.Append(b); err != nil {
				t.Fatal(err)
			}
			must(t, s.log.Sync())
			if err := s.Step(t.Context()); err == nil {
				t.Error("accepted")
			} else if !errors.Is(err, ErrNeedsSeed) {
				t.Logf("refused with %v", err)
			}
			same(t, p, s)
		})
	}
}

// round looks at everything once.
func (s *standby) round() {
	s.t.Helper()
	for {
		round, err := s.LookAround(s.t.Context())
		must(s.t, err)
		if round {
			return
		}
	}
}

// TestLookAround: each kind of foreign write is found without a barrier, and the
// condition ends when it is set right.
func TestLookAround(t *testing.T) {
	p := newPrimary(t)
	for _, name := range []string{"dir/file", "dir/other", "linked", "same"} {
		p.write(name, "content of "+name)
	}
	must(t, os.Link(p.at("linked"), p.at("dir/linked2")))
	s := seeded(t, p)
	s.round()
	if s.has(health.ForeignWrite) {
		t.Fatal("something foreign in a fresh tree")
	}
	at := func(name string) string { return filepath.Join(s.dir, name) }
	for what, write := range map[string]func(){
		"content":   func() { s.put("dir/file", "foreign") },
		"metadata":  func() { must(t, os.Chmod(at("dir/other"), 0o600)) },
		"new":       func() { s.put("dir/new", "foreign") },
		"removed":   func() { must(t, os.Remove(at("dir/file"))) },
		"replaced":  func() { must(t, os.Remove(at("dir/file"))); must(t, os.Mkdir(at("dir/file"), 0o755)) },
		"link":      func() { must(t, os.Link(at("linked"), at("linked3"))) },
		"unlinked":  func() { must(t, os.Remove(at("dir/linked2"))) },
		"relinked":  func() { must(t, os.Rename(at("dir/linked2"), at("linked4"))) },
		"directory": func() { must(t, os.Chmod(at("dir"), 0o700)) },
		"root":      func() { s.put("top", "foreign") },
	} {
		write()
		s.round()
		if !s.has(health.ForeignWrite) {
			t.Errorf("%s: not found", what)
		}
		_, err := s.Verify(t.Context(), VerifyOptions{Repair: true})
		must(t, err)
		s.round()
		if s.has(health.ForeignWrite) {
			t.Errorf("%s: stands after a repair", what)
		}
		must(t, os.RemoveAll(filepath.Join(s.vol.OwnPath(), salvageDir))) // it may hold a link to what is in the tree
		must(t, os.Mkdir(filepath.Join(s.vol.OwnPath(), salvageDir), 0o700))
		s.vol.Flush()
		same(t, p, s)
	}
	// Touched and put back: right again without a repair, also for the next barrier.
	info, err := os.Stat(at("same"))
	must(t, err)
	must(t, os.Chmod(at("same"), 0o600))
	s.round()
	if !s.has(health.ForeignWrite) {
		t.Error("not found")
	}
	must(t, os.Chmod(at("same"), info.Mode()))
	s.round()
	if s.has(health.ForeignWrite) {
		t.Error("stands though it was put back")
	}
	before := len(salvagedFiles(t, s))
	p.write("same", "another")
	s.sync(p)
	same(t, p, s)
	if len(salvagedFiles(t, s)) != before {
		t.Error("what is right was set aside")
	}
	// What a barrier finds and sets aside is told until a look at all finds nothing.
	s.put("same", "foreign")
	p.write("same", "a third")
	s.sync(p)
	if !s.has(health.ForeignWrite) {
		t.Error("not found by the barrier")
	}
	s.round()
	if s.has(health.ForeignWrite) {
		t.Error("stands though all is right")
	}
}

// TestExcluded: excluded names are nobody's business, until their directory goes.
func TestExcluded(t *testing.T) {
	p := newPrimary(t)
	p.write("dir/file", "file")
	p.write("other/file", "file")
	s := newStandby(t, p)
	s.options = func(o *Options) {
		o.Trees[0].Skip = func(path string) bool {
			return strings.HasSuffix(path, ".tmp") || change.Within(path, "cache")
		}
	}
	must(t, s.start())
	must(t, os.Mkdir(filepath.Join(s.dir, "cache"), 0o755))
	s.put("cache/mine", "kept")
	s.put("top.tmp", "kept")
	p.barrier()
	must(t, s.Seed(t.Context(), p.manifest()))
	p.barrier()
	s.receive(p)
	must(t, s.Step(t.Context()))
	s.put("dir/a.tmp", "kept")
	untouched := func() {
		t.Helper()
		for _, name := range []string{"cache/mine", "top.tmp", "dir/a.tmp"} {
			if b, err := os.ReadFile(filepath.Join(s.dir, name)); string(b) != "kept" {
				t.Errorf("%s: %q, %v", name, b, err)
			}
		}
	}
	s.round() // that the directory's time has changed is nobody's business either
	noForeign(t, s)
	report, err := s.Verify(t.Context(), VerifyOptions{})
	must(t, err)
	if report.Count > 0 {
		t.Errorf("verify: %+v", report.Differences)
	}
	p.write("dir/file", "changed")
	s.sync(p)
	s.round()
	untouched()
	noForeign(t, s)
	// What was replicated and is excluded now stays.
	p.write("dir/b.tmp", "kept")
	s.sync(p)
	must(t, os.Remove(p.at("dir/b.tmp")))
	s.sync(p)
	if b, _ := os.ReadFile(filepath.Join(s.dir, "dir/b.tmp")); string(b) != "kept" {
		t.Errorf("what is excluded by now was removed: %q", b)
	}
	must(t, os.RemoveAll(p.at("dir")))
	s.sync(p)
	kept := salvagedFiles(t, s)
	if len(kept) != 2 || s.has(health.ForeignWrite) {
		t.Errorf("salvaged %v", kept)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "dir")); err == nil {
		t.Error("the directory is still there")
	}
}
