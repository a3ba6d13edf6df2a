package capture

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/watch"
)

// pair is a rig with a replica of its first scan.
func pair(t *testing.T, b watch.Backend, prepare func(r *rig)) (*rig, *replica) {
	t.Helper()
	r := newRig(t, b, "")
	prepare(r)
	r.up()
	r.step()
	p := newReplica(r)
	r.barrier()
	p.follow(r.log)
	p.count()
	return r, p
}

// noise returns bytes that don't compress.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = rnd.Read(b)
	return b
}

// operation is one kind of change; carries says whether its data crosses.
type operation struct {
	name    string
	do      func(t *testing.T, r *rig)
	carries bool
}

func operations() []operation {
	return []operation{
		{"write", func(t *testing.T, r *rig) { r.write("a/new", "something new") }, true},
		{"overwrite", func(t *testing.T, r *rig) { r.write("a/f", "something else") }, true},
		{"rename", func(t *testing.T, r *rig) { must(t, os.Rename(r.path("a/f"), r.path("b/g"))) }, false},
		{"rename over", func(t *testing.T, r *rig) { must(t, os.Rename(r.path("a/f"), r.path("b/h"))) }, false},
		{"rename directory", func(t *testing.T, r *rig) { must(t, os.Rename(r.path("a"), r.path("b/a"))) }, false},
		{"swap directories", func(t *testing.T, r *rig) {
			must(t, unix.Renameat2(-100, r.path("a"), -100, r.path("b"), unix.RENAME_EXCHANGE))
		}, false},
		{"rotate directories", func(t *testing.T, r *rig) {
			must(t, os.Rename(r.path("a"), r.path("x")))
			must(t, os.Rename(r.path("b"), r.path("a")))
			must(t, os.Rename(r.path("x"), r.path("b")))
		}, false},
		{"directory into its former child", func(t *testing.T, r *rig) {
			must(t, os.Rename(r.path("a/deep"), r.path("deep")))
			must(t, os.Rename(r.path("a"), r.path("deep/a")))
		}, false},
		{"copy", func(t *testing.T, r *rig) {
			data, err := os.ReadFile(r.path("big"))
			must(t, err)
			must(t, os.WriteFile(r.path("b/copy"), data, 0o600))
		}, false},
		{"remove", func(t *testing.T, r *rig) { must(t, os.RemoveAll(r.path("a"))) }, false},
		{"remove and make again", func(t *testing.T, r *rig) {
			must(t, os.RemoveAll(r.path("a")))
			r.write("a/f", "another f")
		}, true},
		{"file becomes directory", func(t *testing.T, r *rig) {
			must(t, os.Remove(r.path("a/f")))
			r.write("a/f/inner", "in a directory")
		}, true},
		{"directory becomes symlink", func(t *testing.T, r *rig) {
			must(t, os.RemoveAll(r.path("a/deep")))
			must(t, os.Symlink("../b", r.path("a/deep")))
		}, false},
		{"hard link", func(t *testing.T, r *rig) { must(t, os.Link(r.path("a/f"), r.path("b/linked"))) }, false},
		{"write through hard link", func(t *testing.T, r *rig) {
			f, err := os.OpenFile(r.path("one"), os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			_, err = f.WriteString("through the other name")
			must(t, err)
			must(t, f.Close())
		}, true},
		{"rename of a hard link", func(t *testing.T, r *rig) { must(t, os.Rename(r.path("one"), r.path("a/three"))) }, false},
		{"hard link of a symlink", func(t *testing.T, r *rig) { must(t, os.Link(r.path("link"), r.path("b/link2"))) }, false},
		{"metadata", func(t *testing.T, r *rig) {
			must(t, os.Chmod(r.path("a/f"), 0o4711))
			must(t, os.Chmod(r.path("a"), 0o1700))
			must(t, os.Chtimes(r.path("b"), time.Unix(-5, 7), time.Unix(-5, 7)))
			must(t, unix.Setxattr(r.path("a/f"), "user.k", []byte("v"), 0))
		}, false},
		{"fifo and socket", func(t *testing.T, r *rig) {
			must(t, syscall.Mkfifo(r.path("a/fifo"), 0o640))
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			must(t, err)
			defer unix.Close(fd)
			short, err := os.MkdirTemp("", "s")
			must(t, err)
			defer os.RemoveAll(short)
			must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(short, "s")}))
			must(t, os.Rename(filepath.Join(short, "s"), r.path("a/socket")))
		}, false},
		{"hole punched", func(t *testing.T, r *rig) {
			f, err := os.OpenFile(r.path("big"), os.O_RDWR, 0)
			must(t, err)
			defer f.Close()
			must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<20, 1<<20))
		}, true},
		{"truncate", func(t *testing.T, r *rig) { must(t, os.Truncate(r.path("big"), 100)) }, true},
		{"truncate to nothing", func(t *testing.T, r *rig) { must(t, os.Truncate(r.path("a/f"), 0)) }, false},
		{"time set back after a write", func(t *testing.T, r *rig) {
			st, err := os.Stat(r.path("a/f"))
			must(t, err)
			r.write("a/f", "F's text")
			must(t, os.Chtimes(r.path("a/f"), st.ModTime(), st.ModTime()))
		}, true},
		{"odd names", func(t *testing.T, r *rig) {
			r.write("a/\xff\n"+strings.Repeat("x", 253), "odd")
		}, true},
		{"new tree of directories", func(t *testing.T, r *rig) {
			for i := range 30 {
				r.write(fmt.Sprintf("n%d/m/f%d", i%5, i), fmt.Sprint("text ", i))
			}
		}, true},
		{"out of the tree and in again", func(t *testing.T, r *rig) {
			out := filepath.Join(filepath.Dir(r.dir), "out")
			must(t, os.Rename(r.path("a"), out))
			must(t, os.Rename(out, r.path("back")))
		}, false},
	}
}

func prepare(r *rig) {
	r.write("a/f", "f's text")
	r.write("a/deep/er/g", "g's text")
	r.write("b/h", "h's text")
	r.write("one", "two names")
	must(r.t, os.Link(r.path("one"), r.path("b/two")))
	must(r.t, os.Symlink("nowhere", r.path("link")))
	must(r.t, os.WriteFile(r.path("big"), noise(1, 3<<20), 0o644))
}

// TestOperations makes each kind of change and replays what was captured.
func TestOperations(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		for _, op := range operations() {
			t.Run(strings.ReplaceAll(op.name, " ", "-"), func(t *testing.T) {
				r, p := pair(t, b, prepare)
				op.do(t, r)
				cut := r.barrier()
				p.follow(r.log)
				if carried := p.kinds["Chunk"] > 0; carried != op.carries {
					t.Errorf("records %v, %d bytes of data", p.kinds, p.data)
				}
				r.equals(cut)
			})
		}
	})
}

func TestSmallChangeOfLargeFile(t *testing.T) {
	const size = 20 << 20
	r, p := pair(t, watch.Auto, func(r *rig) { must(t, os.WriteFile(r.path("big"), noise(2, size), 0o644)) })
	f, err := os.OpenFile(r.path("big"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("changed"), size/2)
	must(t, err)
	r.barrier()
	p.follow(r.log)
	if p.data > 3*change.ChunkMax || p.kinds["Splice"] != 1 {
		t.Errorf("overwriting 7 bytes gave %v with %d bytes", p.kinds, p.data)
	}
	p.count()
	rest := noise(2, size)
	copy(rest[size/2:], "changed")
	must(t, os.WriteFile(r.path("big"), append([]byte("inserted"), rest...), 0o644))
	cut := r.barrier()
	p.follow(r.log)
	if p.data > 3*change.ChunkMax || p.kinds["Splice"] > 2 {
		t.Errorf("inserting 8 bytes at the front gave %v with %d bytes", p.kinds, p.data)
	}
	r.equals(cut)
}

// TestShmIsSkipped: SQLite's shared memory beside its log is not replicated.
func TestShmIsSkipped(t *testing.T) {
	r, _ := pair(t, watch.Auto, func(r *rig) {})
	r.write("db", "d")
	r.write("db-wal", "w")
	r.write("db-shm", "s")
	r.write("lone-shm", "x")
	r.barrier()
	if had := r.listing(); had["db-wal"] == "" || had["lone-shm"] == "" || had["db-shm"] != "" {
		t.Errorf("captured %v", had)
	}
}

// TestAppendOnly: what grows doesn't disturb a cut, and is taken as a prefix.
func TestAppendOnly(t *testing.T) {
	r := newRig(t, watch.Auto, "")
	r.options = func(o *Options) {
		o.Trees[0].AppendOnly = func(path string) bool { return path == "log" }
	}
	r.up().step()
	p := newReplica(r)
	stop, done := make(chan struct{}), make(chan struct{})
	must(t, os.WriteFile(r.path("log"), []byte("line\n"), 0o644))
	go func() {
		defer close(done)
		f, err := os.OpenFile(r.path("log"), os.O_WRONLY|os.O_APPEND, 0)
		for err == nil {
			select {
			case <-stop:
				f.Close()
				return
			default:
				_, err = f.WriteString("line\n")
			}
		}
		t.Error(err)
	}()
	for i := range 20 {
		r.write("other", fmt.Sprint(i))
		b, err := r.try(5 * time.Second)
		must(t, err)
		if b.ID.Seq == 0 {
			t.Fatal("no barrier")
		}
		p.follow(r.log)
	}
	close(stop)
	<-done
	cut := r.barrier()
	p.follow(r.log)
	r.equals(cut)
	written, err := os.ReadFile(r.path("log"))
	must(t, err)
	if !bytes.HasPrefix(written, []byte("line\nline\n")) {
		t.Error("the writer did not write")
	}
}
