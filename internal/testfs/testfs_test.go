package testfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

var magic = map[string]int64{"ext4": unix.EXT4_SUPER_MAGIC, "xfs": unix.XFS_SUPER_MAGIC, "btrfs": unix.BTRFS_SUPER_MAGIC}

func TestDir(t *testing.T) {
	for _, kind := range Kinds {
		t.Run(kind, func(t *testing.T) {
			var dir string
			t.Run("mounted", func(t *testing.T) {
				dir = Dir(t, kind)
				var fs unix.Statfs_t
				if err := unix.Statfs(dir, &fs); err != nil || fs.Type != magic[kind] {
					t.Errorf("found a file system of type %#x, wanted %#x (%v)", fs.Type, magic[kind], err)
				}
				if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
					t.Errorf("found %v in a new file system (%v)", entries, err)
				}
			})
			if _, err := os.Stat(dir); dir != "" && !os.IsNotExist(err) {
				t.Errorf("%s is still there: %v", dir, err)
			}
		})
	}
}

// TestMountAgain: what is in an image stays there, and unmounting twice is harmless.
func TestMountAgain(t *testing.T) {
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	Image(t, "ext4", image, 16<<20)
	unmount := Mount(t, image, at)
	if err := os.WriteFile(at+"/f", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	unmount()
	unmount()
	if _, err := os.Stat(at + "/f"); !os.IsNotExist(err) {
		t.Fatalf("still mounted: %v", err)
	}
	Mount(t, image, at)
	if text, err := os.ReadFile(at + "/f"); string(text) != "x" {
		t.Errorf("found %q, %v", text, err)
	}
}

// TestMissing runs itself in a process of its own: a skip is a failure with CI=true.
func TestMissing(t *testing.T) {
	if os.Getenv("TESTFS_MISSING") != "" {
		NeedProgram(t, "no-such-program", "no-such-package")
	}
	for _, ci := range []string{"", "true"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestMissing$", "-test.v")
		cmd.Env = append(os.Environ(), "TESTFS_MISSING=1", "CI="+ci)
		out, err := cmd.CombinedOutput()
		if failed := err != nil; failed != (ci == "true") {
			t.Errorf("CI=%q: %v\n%s", ci, err, out)
		}
	}
}
