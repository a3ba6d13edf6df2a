package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"repld/change"
)

func TestCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 50 {
		mkdir(t, filepath.Join(dir, fmt.Sprint(i), "sub"))
		write(t, filepath.Join(dir, fmt.Sprint(i), "sub", "f"), "")
	}
	before := openFDs(t)
	r, err := Open(dir, Options{CacheDirs: 8})
	if err != nil {
		t.Fatal(err)
	}
	rd := r.NewReader()
	for range 2 {
		for i := range 50 {
			for _, path := range []string{fmt.Sprintf("%d/sub/f", i), fmt.Sprintf("%d/sub", i)} {
				if _, err := rd.Lstat(path); err != nil {
					t.Fatal(err)
				}
			}
			if entries, err := rd.ReadDir(fmt.Sprintf("%d/sub", i)); err != nil || len(entries) != 1 {
				t.Fatal(entries, err)
			}
		}
		if n := openFDs(t); n > before+2+8 {
			t.Errorf("%d descriptors, wanted at most %d", n, before+2+8)
		}
	}
	rd.Flush()
	if n := openFDs(t); n != before+2 {
		t.Errorf("after Flush %d descriptors, wanted %d", n, before+2)
	}
	rd.Close()
	r.Close()
	if n := openFDs(t); n != before {
		t.Errorf("after Close %d descriptors, wanted %d", n, before)
	}
}

func TestCacheNoticesDirectoriesMadeAgain(t *testing.T) {
	dir := t.TempDir()
	rd := openReader(t, dir)
	for i := range 3 {
		mkdir(t, filepath.Join(dir, "a/b/c"))
		write(t, filepath.Join(dir, "a/b/c/f"), strings.Repeat("x", i))
		for _, path := range []string{"a/b/c/f", "a/b/f"} {
			st, err := rd.Lstat(path)
			if path == "a/b/f" {
				if !Vanished(err) {
					t.Fatal(err)
				}
				continue
			}
			if err != nil || st.Size != uint64(i) {
				t.Fatalf("turn %d: %+v %v", i, st, err)
			}
		}
		if entries, err := rd.ReadDir("a/b/c"); err != nil || len(entries) != 1 {
			t.Fatal(entries, err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
			t.Fatal(err)
		}
		if i == 1 { // also with the answer "it is gone" in between
			if _, err := rd.ReadDir("a/b/c"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
}

func TestForget(t *testing.T) {
	dir := t.TempDir()
	rd := openReader(t, dir)
	mkdir(t, filepath.Join(dir, "a/b"))
	write(t, filepath.Join(dir, "a/b/f"), "1")
	if _, err := rd.Lstat("a/b/f"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "z")); err != nil {
		t.Fatal(err)
	}
	rd.Forget("a")
	if _, err := rd.Lstat("a/b/f"); !Vanished(err) {
		t.Errorf("found %v below a name that is gone", err)
	}
}

// TestVolumeForgetsWhatItMoves moves directories between two names and writes below.
func TestVolumeForgetsWhatItMoves(t *testing.T) {
	dir := t.TempDir()
	v := openVolume(t, dir, VolumeOptions{})
	for _, path := range []string{"a", "a/sub", "b", "b/sub"} {
		if err := v.Mkdir(InTree(path)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		for _, side := range []string{"a", "b"} {
			f, err := v.Create(InTree(fmt.Sprintf("%s/sub/%d-%s", side, i, side)))
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		for _, step := range [][2]Place{{InTree("a"), InOwn("x")}, {InTree("b"), InTree("a")}, {InOwn("x"), InTree("b")}} {
			if err := v.Rename(step[0], step[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	// a got side a's names in even turns, when it was the first directory.
	for _, side := range []string{"a", "b"} {
		entries, err := v.ReadDir(InTree(side + "/sub"))
		if err != nil || len(entries) != 10 {
			t.Fatal(entries, err)
		}
		for _, e := range entries {
			var turn int
			var name string
			if _, err := fmt.Sscanf(e.Name, "%d-%s", &turn, &name); err != nil {
				t.Fatal(err)
			}
			if wanted := turn%2 == 0; wanted != (name == side) {
				t.Errorf("%s holds %s", side, e.Name)
			}
		}
	}
}

func TestVolumeConcurrently(t *testing.T) {
	dir := t.TempDir()
	before := openFDs(t)
	v, err := OpenVolume(dir, VolumeOptions{Options: Options{CacheDirs: 3}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 60 {
				d := fmt.Sprintf("d%d", (w+i)%6)
				if err := v.Mkdir(InTree(d)); err != nil && !errors.Is(err, fs.ErrExist) {
					t.Error(err)
				}
				own := InOwn(fmt.Sprintf("%d-%d", w, i))
				f, err := v.Create(own)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := f.WriteAt([]byte("data"), 0); err != nil {
					t.Error(err)
				}
				if _, err := f.SetMeta(&change.Meta{Mode: 0o600, UID: v.uid, GID: v.gid}); err != nil {
					t.Error(err)
				}
				f.Close()
				if err := v.Rename(own, InTree(d+"/"+own.Path)); err != nil {
					t.Error(err)
				}
				if entries, err := v.ReadDir(InTree(d)); err != nil || len(entries) == 0 {
					t.Error(entries, err)
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for i := range 6 {
		entries, err := v.ReadDir(InTree(fmt.Sprintf("d%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		total += len(entries)
	}
	if total != 4*60 {
		t.Errorf("%d files, wanted %d", total, 4*60)
	}
	v.Close()
	if n := openFDs(t); n != before {
		t.Errorf("%d descriptors, wanted %d", n, before)
	}
}

// TestDeepPaths works on paths that are longer than PATH_MAX in every way.
func TestDeepPaths(t *testing.T) {
	dir := t.TempDir()
	v := openVolume(t, dir, VolumeOptions{Options: Options{CacheDirs: 4}})
	path := ""
	const levels = 60
	for range levels {
		path = change.Join(path, strings.Repeat("d", 200))
		if err := v.Mkdir(InTree(path)); err != nil {
			t.Fatal(err)
		}
	}
	file := change.Join(path, "file")
	f, err := v.Create(InOwn("f"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	v.Flush()
	if err := v.Rename(InOwn("f"), InTree(file)); err != nil {
		t.Fatal(err)
	}
	if _, err := v.SetMeta(InTree(file), change.KindFile, &change.Meta{Mode: 0o640, UID: v.uid, GID: v.gid, Mtime: change.Time{Sec: -5, Nsec: 6},
		Xattrs: []change.Xattr{{Name: "user.x", Value: []byte("y")}}}); err != nil {
		t.Fatal(err)
	}
	rd := openReader(t, dir)
	st, err := rd.Lstat(file)
	if err != nil || st.Mode != 0o640 || st.Mtime != (change.Time{Sec: -5, Nsec: 6}) {
		t.Fatal(st, err)
	}
	rd.Flush()
	if m, err := rd.Meta(file, &st); err != nil || len(m.Xattrs) != 1 {
		t.Fatal(m, err)
	}
	rd.Flush()
	if r, err := rd.OpenFile(file); err != nil {
		t.Fatal(err)
	} else {
		r.Close()
	}
	rd.Flush()
	if entries, err := rd.ReadDir(path); err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	if got := len(describe(t, rd, false)); got != levels+2 {
		t.Errorf("%d objects, wanted %d", got, levels+2)
	}
	if err := v.RemoveAll(InTree(strings.Repeat("d", 200))); err != nil {
		t.Fatal(err)
	}
	if entries, err := v.ReadDir(InTree("")); err != nil || len(entries) > 0 {
		t.Fatal(entries, err)
	}
}
