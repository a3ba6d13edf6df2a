package tree

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReleaseAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"6.13.0": true, "6.18.44-fc-v470": true, "7.0-rc1": true, "6.12.99": false, "5.10.0-8-amd64": false, "6": false, "": false, "x.y": false,
	} {
		if got := releaseAtLeast(release, 6, 13); got != want {
			t.Errorf("release %q is at least 6.13: %v, want %v", release, got, want)
		}
	}
}

// TestFineTimes: where fine time stamps are promised, a change right after a look
// shows.
func TestFineTimes(t *testing.T) {
	dir := t.TempDir()
	root, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if !root.FineTimes() {
		t.Log("this kernel or file system has coarse time stamps")
		return
	}
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rd := root.NewReader()
	defer rd.Close()
	for i := range 1000 {
		before, err := rd.Lstat("f")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{byte(i)}, 0); err != nil {
			t.Fatal(err)
		}
		after, err := rd.Lstat("f")
		if err != nil {
			t.Fatal(err)
		}
		if after.Ctime.Compare(before.Ctime) <= 0 {
			t.Fatalf("write %d: time stamp %v before, %v after", i, before.Ctime, after.Ctime)
		}
	}
}
