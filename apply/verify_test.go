package apply

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestVerify: every kind of difference is found, and repaired.
func TestVerify(t *testing.T) {
	p := newPrimary(t)
	for _, name := range []string{"flipped", "missing", "mode", "kind", "dir/inside", "dir/below/deep", "linked", "replaced", "fine", "gone/x", "gone/y/z"} {
		p.write(name, "content of "+name)
	}
	must(t, os.Link(p.at("linked"), p.at("linked2")))
	must(t, os.Symlink("there", p.at("symlink")))
	p.write("large", string(noise(7, 3<<20)))
	s := seeded(t, p)
	clean, err := s.Verify(t.Context(), VerifyOptions{})
	must(t, err)
	if clean.Count != 0 || clean.Files != 13 || clean.Barrier.ID.Seq != p.seq {
		t.Fatalf("verify of an untouched tree: %+v", clean)
	}

	at := func(path string) string { return filepath.Join(s.dir, path) }
	for _, name := range []string{"flipped", "large"} {
		info, err := os.Stat(at(name))
		must(t, err)
		patch(t, at(name), 3, []byte{'!'})
		must(t, os.Chtimes(at(name), info.ModTime(), info.ModTime()))
	}
	must(t, os.Remove(at("missing")))
	must(t, os.Chmod(at("mode"), 0o600))
	must(t, os.Remove(at("kind")))
	must(t, os.Mkdir(at("kind"), 0o700))
	s.put("kind/file", "in the wrong kind")
	s.put("dir/extra", "extra")
	must(t, os.Mkdir(at("dir/extradir"), 0o700))
	s.put("dir/extradir/x", "extra")
	must(t, os.Remove(at("linked2")))
	s.put("linked2", "content of linked")
	must(t, os.Remove(at("replaced")))
	run(t, "cp", "-a", p.at("replaced"), at("replaced"))
	must(t, os.RemoveAll(at("gone")))
	must(t, os.Remove(at("symlink")))
	must(t, os.Symlink("elsewhere", at("symlink")))

	report, err := s.Verify(t.Context(), VerifyOptions{})
	must(t, err)
	got := map[string]string{}
	for _, d := range report.Differences {
		got[d.Path] = d.What
	}
	want := map[string]string{
		"tree/flipped": DiffersContent, "tree/large": DiffersContent, "tree/missing": DiffersMissing, "tree/mode": DiffersMetadata,
		"tree/kind": DiffersKind, "tree/dir/extra": DiffersExtra, "tree/dir/extradir": DiffersExtra, "tree/linked2": DiffersReplaced,
		"tree/replaced": DiffersReplaced, "tree/gone": DiffersMissing, "tree/gone/x": DiffersMissing, "tree/gone/y": DiffersMissing,
		"tree/gone/y/z": DiffersMissing, "tree/symlink": DiffersContent,
		"tree": DiffersMetadata, "tree/dir": DiffersMetadata, // their times
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got[path] != want[path] {
			t.Errorf("%s: %q, want %q", path, got[path], want[path])
		}
		delete(got, path)
	}
	if len(got) > 0 {
		t.Errorf("also found %v", got)
	}

	_, err = s.Verify(t.Context(), VerifyOptions{Repair: true})
	must(t, err)
	same(t, p, s)
	report, err = s.Verify(t.Context(), VerifyOptions{})
	must(t, err)
	if report.Count != 0 {
		t.Errorf("after the repair: %+v", report.Differences)
	}
	p.write("fine", "goes on")
	p.mv("dir", "dir2")
	p.write("large", "small now")
	s.sync(p)
	same(t, p, s)
}

// TestRepairCrash: a repair that was cut short is finished at the next start.
func TestRepairCrash(t *testing.T) {
	p := newPrimary(t)
	p.files("a", 20)
	for i := 1; i < 60; i++ {
		s := seeded(t, p)
		must(t, os.RemoveAll(filepath.Join(s.dir, "a/3")))
		must(t, os.Remove(filepath.Join(s.dir, "a/1/f1")))
		s.put("a/2/extra", "extra")
		patch(t, filepath.Join(s.dir, "a/4/f11"), 2, []byte("!"))
		c := &crasher{n: i}
		s.reopen(c.hook, nil)
		c.armed = true
		_, err := s.Verify(t.Context(), VerifyOptions{Repair: true})
		if err == nil {
			same(t, p, s)
			return
		}
		s.reopen(nil, nil)
		_, err = s.Verify(t.Context(), VerifyOptions{Repair: true})
		must(t, err)
		same(t, p, s)
		s.stop()
		i += 4
	}
}

// TestHoles: holes stay holes, when a file is staged and when it is patched.
func TestHoles(t *testing.T) {
	p := newPrimary(t)
	p.write("sparse", "")
	must(t, os.Truncate(p.at("sparse"), 16<<20))
	patch(t, p.at("sparse"), 4<<20, noise(1, 8<<20))
	s := newStandby(t, p)
	s.redo = 1 << 20
	must(t, s.start())
	seed(t, p, s)
	f, err := os.OpenFile(p.at("sparse"), os.O_RDWR, 0)
	must(t, err)
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 6<<20, 1<<20))
	must(t, f.Truncate(20<<20))
	must(t, f.Close())
	s.sync(p)
	same(t, p, s)
	var a, b unix.Stat_t
	must(t, unix.Stat(p.at("sparse"), &a))
	must(t, unix.Stat(filepath.Join(s.dir, "sparse"), &b))
	if d := a.Blocks - b.Blocks; d < -64 || d > 64 {
		t.Errorf("%d blocks on the primary, %d on the standby", a.Blocks, b.Blocks)
	}
}
