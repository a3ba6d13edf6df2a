package watch

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"repld/internal/testfs"
)

func mapped(t *testing.T, path string, prot, flags int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	must(t, err)
	must(t, f.Truncate(4096))
	b, err := unix.Mmap(int(f.Fd()), 0, 4096, prot, flags)
	must(t, err)
	must(t, f.Close()) // the mapping outlives the descriptor
	t.Cleanup(func() { must(t, unix.Munmap(b)) })
}

func TestInvisible(t *testing.T) {
	for _, kind := range []string{"", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			base := testfs.Dir(t, kind)
			root := filepath.Join(base, "tree")
			must(t, os.MkdirAll(root+"/skipped", 0o755))
			const rw = unix.PROT_READ | unix.PROT_WRITE
			mapped(t, root+"/shared", rw, unix.MAP_SHARED)
			mapped(t, root+"/new\nline", rw, unix.MAP_SHARED)
			mapped(t, root+"/private", rw, unix.MAP_PRIVATE)
			mapped(t, root+"/reading", unix.PROT_READ, unix.MAP_SHARED)
			mapped(t, root+"/skipped/f", rw, unix.MAP_SHARED)
			mapped(t, base+"/elsewhere", rw, unix.MAP_SHARED)
			mapped(t, base+"/linked", rw, unix.MAP_SHARED)
			must(t, os.Link(base+"/linked", root+"/link"))
			write(t, root+"/db-wal", "")
			mapped(t, root+"/db-shm", rw, unix.MAP_SHARED) // SQLite's index of db-wal
			mapped(t, root+"/other-shm", rw, unix.MAP_SHARED)
			tree := Tree{Path: root, Skip: func(p string) bool { return p == "skipped" }}
			report, err := Invisible(context.Background(), []Tree{tree})
			must(t, err)
			got := map[string]int{}
			for _, u := range report.Files {
				if u.PID == os.Getpid() {
					got[u.Path]++
				}
			}
			want := map[string]int{"shared": 1, "new\nline": 1, "other-shm": 1, "": 1}
			for path, n := range want {
				if got[path] != n {
					t.Errorf("%q: found %d, want %d", path, got[path], n)
				}
				delete(got, path)
			}
			for path := range got {
				t.Errorf("%q was found too", path)
			}
		})
	}
}

func TestInvisibleAIO(t *testing.T) {
	root := t.TempDir()
	write(t, root+"/read-only", "x")
	reading, err := os.Open(root + "/read-only")
	must(t, err)
	writing, err := os.Create(root + "/data")
	must(t, err)
	t.Cleanup(func() { _, _ = reading.Close(), writing.Close() })
	var aio uintptr
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 8, uintptr(unsafe.Pointer(&aio)), 0); errno != 0 {
		testfs.Missing(t, "needs asynchronous I/O, which a sandbox may forbid: io_setup: "+errno.Error())
	}
	t.Cleanup(func() { _, _, _ = unix.Syscall(unix.SYS_IO_DESTROY, aio, 0, 0) })
	report, err := Invisible(context.Background(), []Tree{{Path: root}})
	must(t, err)
	ours := slices.DeleteFunc(report.Files, func(u Unseen) bool { return u.PID != os.Getpid() })
	if len(ours) != 1 || ours[0].Path != "data" || !ours[0].AIO || ours[0].Comm == "" {
		t.Fatalf("%+v", report)
	}
}

func TestParseMount(t *testing.T) {
	m, ok := parseMount(`36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`)
	if want := (mount{98, 0, "/mnt1", "/mnt 2", "ext3", "/dev/root"}); !ok || m != want {
		t.Fatalf("%+v", m)
	}
	for _, bad := range []string{"", "36 35 98:0 / /", "36 35 x / /p rw - ext3 s rw"} {
		if _, ok := parseMount(bad); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func BenchmarkInvisible(b *testing.B) {
	for b.Loop() {
		if _, err := Invisible(context.Background(), []Tree{{Path: b.TempDir()}}); err != nil {
			b.Fatal(err)
		}
	}
}
