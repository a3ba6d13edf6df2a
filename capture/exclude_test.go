package capture

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"repld/health"
	"repld/tree"
	"repld/watch"
)

// excluding has the rig skip what patterns mean.
func (r *rig) excluding(patterns ...string) {
	r.t.Helper()
	m, err := tree.NewMatcher(patterns)
	must(r.t, err)
	r.skip = m.Skip
}

// paths returns what the catalog has, without the root.
func (r *rig) paths() (paths []string) {
	for path := range r.listing() {
		if path != "" && path != "tree" {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// TestExcluded: what patterns mean is not captured, by whatever way it comes.
func TestExcluded(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		r, p := pair(t, b, func(r *rig) {
			r.excluding("cache/**", "*.tmp", "/only/here")
			r.write("cache/a/b", "below cache")
			r.write("x.tmp", "x")
			r.write("dir.tmp/inside", "x")
			r.write("only/here/x", "x")
			r.write("other/only/here", "captured")
		})
		want := []string{"cache", "only", "other", "other/only", "other/only/here"}
		if got := r.paths(); !slices.Equal(got, want) {
			t.Errorf("captured %q, want %q", got, want)
		}
		r.write("cache/new/one", "x")
		r.write("other/\xff.tmp", "x")
		r.write("only/here/new", "x")
		must(t, os.Remove(r.path("cache/a/b")))
		cut := r.barrier()
		p.follow(r.log)
		if got := r.paths(); !slices.Equal(got, want) || p.kinds["Chunk"] > 0 || p.kinds["Link"] > 0 {
			t.Errorf("captured %q, want %q; records %v", got, want, p.kinds)
		}
		r.equals(cut) // the time stamp of cache too
		// A scan finds nothing that events had not told.
		r.c.rescan.Store(true)
		r.barrier()
		if text := r.condition(health.MissedChanges); text != "" {
			t.Error(text)
		}
	})
}

// TestExcludeBoundary: a move out of what is excluded is a creation, and one into it
// a removal.
func TestExcludeBoundary(t *testing.T) {
	moves := []struct {
		from, to string
		in       bool // what is at to is captured
	}{
		{"f", "f.tmp", false},
		{"f", "cache/f", false},
		{"d", "d.tmp", false},
		{"d", "cache/d", false},
		{"x.tmp", "x", true},
		{"cache/x", "x", true},
		{"e.tmp", "e", true},
		{"cache/e", "d/e", true},
		{"cache/e", "g.tmp", false},
	}
	both(t, func(t *testing.T, b watch.Backend) {
		for _, m := range moves {
			t.Run(fmt.Sprintf("%s to %s", strings.ReplaceAll(m.from, "/", "-"), strings.ReplaceAll(m.to, "/", "-")), func(t *testing.T) {
				r, p := pair(t, b, func(r *rig) {
					r.excluding("cache/**", "*.tmp")
					r.write("f", "f's text")
					r.write("d/deep/g", "g's text")
					r.write("x.tmp", "x's text")
					r.write("e.tmp/deep/h", "h's text")
					r.write("cache/x", "another x's text")
					r.write("cache/e/deep/h", "another h's text")
				})
				must(t, os.Rename(r.path(m.from), r.path(m.to)))
				cut := r.barrier()
				p.follow(r.log)
				got := r.paths()
				if slices.Contains(got, m.from) || slices.Contains(got, m.to) != m.in {
					t.Errorf("captured %q", got)
				}
				r.equals(cut)
				// What it is now is followed further.
				at := m.to
				if st, err := os.Stat(r.path(at)); err == nil && st.IsDir() {
					at += "/deep/new"
				}
				r.write(at, "written after the move")
				cut = r.barrier()
				p.follow(r.log)
				if slices.Contains(r.paths(), at) != m.in {
					t.Errorf("after a write to %s captured %q", at, r.paths())
				}
				r.equals(cut)
			})
		}
	})
}

// TestExcludedName: a file that has an excluded name and another one is captured by
// the other, through whichever it is written.
func TestExcludedName(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		r, p := pair(t, b, func(r *rig) {
			r.excluding("*.tmp")
			r.write("f.tmp", "begun")
			must(t, os.Link(r.path("f.tmp"), r.path("f")))
		})
		r.appendTo("f.tmp", []byte(" and finished"))
		cut := r.barrier()
		p.follow(r.log)
		if got := r.listing()["f"]; !strings.Contains(got, " 18 ") {
			t.Errorf("captured %q", got)
		}
		r.equals(cut)
	})
}

// TestExcludeChanged: after a restart with other patterns what is newly excluded
// leaves the catalog, and what no longer is comes into it.
func TestExcludeChanged(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		r, p := pair(t, b, func(r *rig) {
			r.excluding("old/**", "*.tmp")
			r.write("old/a/b", "was excluded")
			r.write("x.tmp", "was excluded too")
			r.write("new/c/d", "will be excluded")
			r.write("y.log", "this too")
		})
		r.down()
		r.excluding("new", "*.log")
		r.up()
		cut := r.barrier()
		p.follow(r.log)
		want := []string{"old", "old/a", "old/a/b", "x.tmp"}
		if got := r.paths(); !slices.Equal(got, want) {
			t.Errorf("captured %q, want %q", got, want)
		}
		if text := r.condition(health.MissedChanges); text != "" {
			t.Error(text)
		}
		r.equals(cut)
		r.write("old/a/b", "written")
		r.write("new/c/d", "written")
		r.equals(r.barrier())
	})
}
