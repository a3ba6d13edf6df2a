package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"repld/internal/testfs"
)

// CheckVolume says what OpenVolume does afterwards, and leaves nothing behind.
func TestCheckVolume(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, base string)
		staging string // below base, "/…" as it stands
		want    error
		own     string
	}{
		{name: "beside", own: ".repld-data"},
		{name: "inside, because it is there", own: "data/.repld", prepare: func(t *testing.T, base string) {
			if err := os.Mkdir(filepath.Join(base, "data/.repld"), 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "staging", staging: "staging", own: "staging"},
		{name: "staging in the tree", staging: "data/staging", want: errAny},
		{name: "staging below nothing", staging: "none/staging", want: fs.ErrNotExist},
		{name: "staging elsewhere", staging: "/dev/shm/repld-tree-preview", want: ErrOtherFS},
		{name: "staging is a directory elsewhere", staging: "/proc/sys", want: ErrOtherFS},
		{name: "own directory is a file", want: ErrNotDirectory, prepare: func(t *testing.T, base string) {
			if err := os.WriteFile(filepath.Join(base, ".repld-data"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "no tree", want: fs.ErrNotExist, prepare: func(t *testing.T, base string) {
			if err := os.Remove(filepath.Join(base, "data")); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := t.TempDir()
			if err := os.Mkdir(filepath.Join(base, "data"), 0o755); err != nil {
				t.Fatal(err)
			}
			if c.prepare != nil {
				c.prepare(t, base)
			}
			o := VolumeOptions{Staging: c.staging}
			if c.staging != "" && !filepath.IsAbs(c.staging) {
				o.Staging = filepath.Join(base, c.staging)
			}
			before := names(t, base)
			own, err := CheckVolume(filepath.Join(base, "data"), o)
			if after := names(t, base); after != before {
				t.Errorf("it made something: %s before, %s after", before, after)
			}
			if c.want != nil {
				if err == nil || c.want != errAny && !errors.Is(err, c.want) {
					t.Errorf("found %q and error %v, want %v", own, err, c.want)
				}
			} else if err != nil || own != filepath.Join(base, c.own) {
				t.Errorf("found %q and error %v, want %s", own, err, c.own)
			}
			v, err := OpenVolume(filepath.Join(base, "data"), o)
			if (err == nil) != (c.want == nil) {
				t.Errorf("OpenVolume says %v", err)
			}
			if err == nil {
				if v.OwnPath() != own {
					t.Errorf("OpenVolume takes %s, CheckVolume said %s", v.OwnPath(), own)
				}
				v.Close()
			} else if filepath.IsAbs(c.staging) {
				os.Remove(c.staging)
			}
		})
	}
}

var errAny = errors.New("any")

func names(t *testing.T, dir string) string {
	t.Helper()
	all := ""
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all += path + "\n"
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCheckVolumeOfMount(t *testing.T) {
	mount := testfs.Tmpfs(t, "")
	own, err := CheckVolume(mount, VolumeOptions{})
	if want := filepath.Join(mount, OwnName); err != nil || own != want {
		t.Errorf("found %q and error %v, want %s", own, err, want)
	}
	if _, err := CheckVolume(mount, VolumeOptions{Staging: filepath.Join(filepath.Dir(mount), "staging")}); !errors.Is(err, ErrOtherFS) {
		t.Errorf("staging beside the mount: found %v, want %v", err, ErrOtherFS)
	}
}

func TestCheckVolumeWithoutPrivileges(t *testing.T) {
	base := sharedDir(t)
	for _, dir := range []string{"others", "others/data", "others/theirs", "own", "own/data"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"own/data", "others/data"} {
		if err := os.Chown(filepath.Join(base, dir), 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("as nobody", func(t *testing.T) { // what is to be removed needs the privileges
		withoutPrivileges(t)
		// What is beside it belongs to others, so that it is inside.
		own, err := CheckVolume(filepath.Join(base, "others/data"), VolumeOptions{})
		if want := filepath.Join(base, "others/data", OwnName); err != nil || own != want {
			t.Errorf("found %q and error %v, want %s", own, err, want)
		}
		if _, err := CheckVolume(filepath.Join(base, "others"), VolumeOptions{}); !errors.Is(err, unix.EACCES) {
			t.Errorf("a tree of others: found %v, want %v", err, unix.EACCES)
		}
		if _, err := CheckVolume(filepath.Join(base, "own/data"), VolumeOptions{Staging: filepath.Join(base, "others/new")}); !errors.Is(err, unix.EACCES) {
			t.Errorf("staging in a directory of others: found %v, want %v", err, unix.EACCES)
		}
		if _, err := CheckVolume(filepath.Join(base, "own/data"), VolumeOptions{Staging: filepath.Join(base, "others/theirs")}); err == nil {
			t.Error("the staging directory of others was accepted")
		}
	})
}
