package capture

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"repld/change"
	"repld/journal/catalog"
	"repld/watch"
)

// logFile declares the file "log" append-only, and notes which bytes of it are read.
func logFile(r *rig) (reads func() string) {
	r.options = func(o *Options) {
		o.Trees[0].AppendOnly = func(path string) bool { return path == "log" || strings.HasPrefix(path, "logs/") }
	}
	r.up()
	var seen []string
	r.c.onRead = func(path string, off int64, n int) { seen = append(seen, fmt.Sprintf("%s %d+%d", path, off, n)) }
	return func() string {
		all := strings.Join(seen, ", ")
		seen = nil
		return all
	}
}

// lastRef returns the last reference of a file.
func (r *rig) lastRef(path string) (last catalog.Ref) {
	r.t.Helper()
	must(r.t, r.catalog.View(func(tx *catalog.Tx) error {
		root, _ := tx.Lookup(change.GroupNode, "tree")
		node, _ := walk(tx, root, path)
		for ref := range tx.Refs(node, 0) {
			last = ref
		}
		return nil
	}))
	return last
}

func (r *rig) appendTo(path string, data []byte) {
	r.t.Helper()
	f, err := os.OpenFile(r.path(path), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	must(r.t, err)
	_, err = f.Write(data)
	must(r.t, err)
	must(r.t, f.Close())
}

// TestAppendOnlyReadsTheTail: of a file that grew nothing before its last chunk is
// read, and only what follows is spliced in.
func TestAppendOnlyReadsTheTail(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		const size = 5<<20 + 12345
		r := newRig(t, b, "")
		must(t, os.WriteFile(r.path("log"), noise(1, size), 0o644))
		reads := logFile(r)
		r.step()
		p := newReplica(r)
		r.barrier()
		p.follow(r.log)
		for i, n := range []int{1000, 300 << 10, 3 << 20, 1} {
			p.count()
			reads()
			last := r.lastRef("log")
			r.appendTo("log", noise(uint64(7+i), n))
			cut := r.barrier()
			p.follow(r.log)
			if p.kinds["Splice"] != 1 || p.data > n+change.ChunkMax {
				t.Errorf("appending %d bytes gave %v with %d bytes", n, p.kinds, p.data)
			}
			for _, read := range strings.Split(reads(), ", ") {
				var off, length int64
				if _, err := fmt.Sscanf(read, "log %d+%d", &off, &length); err != nil || off < int64(last.Offset) {
					t.Errorf("appending %d bytes to a file whose last chunk is at %d read %q (%v)", n, last.Offset, read, err)
				}
			}
			r.equals(cut)
		}
	})
}

// TestAppendOnlyThatDidMore: a file that is declared to grow, and was changed
// otherwise, is read whole.
func TestAppendOnlyThatDidMore(t *testing.T) {
	const size = 2 << 20
	whole := fmt.Sprintf("log 0+%d", change.ChunkMax)
	for name, do := range map[string]func(r *rig){
		"truncated":             func(r *rig) { must(t, os.Truncate(r.path("log"), size/2)) },
		"truncated and regrown": func(r *rig) { must(t, os.WriteFile(r.path("log"), noise(5, size+5000), 0o644)) },
		"rewritten":             func(r *rig) { must(t, os.WriteFile(r.path("log"), noise(6, size), 0o644)) },
		"replaced": func(r *rig) {
			must(t, os.WriteFile(r.path("new"), noise(7, size+5000), 0o644))
			must(t, os.Rename(r.path("new"), r.path("log")))
		},
		"grown by a hole": func(r *rig) {
			must(t, os.Truncate(r.path("log"), size+1<<20))
			r.appendTo("log", []byte("behind the hole"))
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			r := newRig(t, watch.Auto, "")
			must(t, os.WriteFile(r.path("log"), noise(1, size), 0o644))
			reads := logFile(r)
			r.barrier()
			reads()
			do(r)
			cut := r.barrier()
			if got := reads(); !strings.Contains(got, "log 0+") {
				t.Errorf("read %q, want it to begin with %q", got, whole)
			}
			r.options = nil // what a fresh scan finds is read whole
			r.equals(cut)
		})
	}
}

// TestAppendOnlyIsAPrefix: files that grow without pause never make a barrier late,
// and each barrier has of each of them a prefix that holds all that was appended
// before the call.
func TestAppendOnlyIsAPrefix(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		r := newRig(t, b, "")
		must(t, os.Mkdir(r.path("logs"), 0o755))
		must(t, os.WriteFile(r.path("log"), noise(1, 1<<20), 0o644))
		logFile(r)
		r.step()
		p := newReplica(r)
		stop := make(chan struct{})
		var writers sync.WaitGroup
		for i := range 2 {
			writers.Go(func() {
				f, err := os.OpenFile(r.path(fmt.Sprintf("logs/%d", i)), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
				// Shorter than any cut; without it they would keep inotify's queue full, which
				// tells of every write.
				for n := 0; err == nil; n++ {
					select {
					case <-stop:
						f.Close()
						return
					case <-time.After(100 * time.Microsecond):
						_, err = fmt.Fprintf(f, "%d\n", n)
					}
				}
				t.Error(err)
			})
		}
		defer writers.Wait()
		defer close(stop)
		for i := range 4 {
			r.write("other", fmt.Sprint(i))
			before, err := os.Stat(r.path("logs/0"))
			if err != nil {
				before = nil
			}
			_, err = r.try(5 * time.Second)
			must(t, err)
			p.follow(r.log)
			if before == nil {
				continue
			}
			last := r.lastRef("logs/0")
			got := contentOf(t, r, p, "logs/0")
			now, err := os.ReadFile(r.path("logs/0"))
			must(t, err)
			if !bytes.HasPrefix(now, got) || int64(last.Offset+last.Length) < before.Size() {
				t.Fatalf("barrier %d has %d bytes, before the call there were %d", i, len(got), before.Size())
			}
		}
	})
}

// growing is a watcher that tells of growth of some files at every drain.
type growing struct {
	watch.Watcher
	names []string
}

func (g *growing) Drain(ctx context.Context, set *watch.Set) (watch.Sync, error) {
	sync, err := g.Watcher.Drain(ctx, set)
	for _, name := range g.names {
		set.Add(watch.Key{Name: name}, watch.Content, sync.At)
	}
	return sync, err
}

// TestAppendOnlyWithoutPause: one file that grows at every look is part of the cut;
// of several the certificate says that it can't be told which grew first.
func TestAppendOnlyWithoutPause(t *testing.T) {
	for _, names := range [][]string{{"a.log"}, {"a.log", "b.log"}} {
		var grow *growing
		r := newRig(t, watch.Auto, "")
		for _, name := range names {
			r.write(name, "begun")
		}
		r.options = func(o *Options) {
			o.Trees[0].AppendOnly = func(path string) bool { return strings.HasSuffix(path, ".log") }
		}
		r.wrap = func(w watch.Watcher) watch.Watcher { grow = &growing{Watcher: w}; return grow }
		r.up()
		r.barrier()
		grow.names = names
		r.write("other", "x")
		r.step()
		cut := r.c.State().Newest
		var want []string
		if len(names) > 1 {
			want = []string{"tree/a.log", "tree/b.log"}
		}
		if cut.ID.Seq != 2 || !slices.Equal(cut.Uncovered, want) {
			t.Errorf("%v grow: barrier %v, uncovered %v, want %v", names, cut.ID, cut.Uncovered, want)
		}
	}
}

// contentOf returns what a replica has of a file.
func contentOf(t *testing.T, r *rig, p *replica, path string) (data []byte) {
	t.Helper()
	must(t, r.catalog.View(func(tx *catalog.Tx) error {
		root, _ := tx.Lookup(change.GroupNode, "tree")
		node, _ := walk(tx, root, path)
		for ref := range tx.Refs(node, 0) {
			data = append(data, p.chunks[ref.Digest]...)
		}
		return nil
	}))
	return data
}
