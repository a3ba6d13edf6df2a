package apply

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"repld/change"
	"repld/health"
	"repld/tree"
)

// counting counts what is fetched, and fails on demand.
type counting struct {
	*primary
	mu     sync.Mutex
	chunks int
	bytes  int
	limit  int // after so many chunks the link breaks; 0 = never
}

var errLink = errors.New("the link is down")

func (c *counting) Fetch(ctx context.Context, digests []change.Digest, each func(change.Digest, []byte) error) error {
	return c.primary.Fetch(ctx, digests, func(d change.Digest, data []byte) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.limit > 0 && c.chunks >= c.limit {
			return errLink
		}
		c.chunks++
		c.bytes += len(data)
		return each(d, data)
	})
}

func (p *primary) files(prefix string, n int) {
	for i := range n {
		p.write(fmt.Sprintf("%s/%d/f%d", prefix, i%7, i), fmt.Sprintf("%s file %d %s", prefix, i, strings.Repeat("x", i)))
	}
}

// TestSeedResumes: a seed that breaks goes on where it was, over a restart too,
// and nothing complete is fetched again.
func TestSeedResumes(t *testing.T) {
	p := newPrimary(t)
	p.files("many", 300)
	p.barrier()
	c := &counting{primary: p, limit: 150}
	s := newStandby(t, c)
	must(t, s.start())
	s.o.Workers = 1
	must(t, s.Seed(t.Context(), p.manifest()))
	if err := s.Step(t.Context()); !errors.Is(err, errLink) {
		t.Fatalf("the step ended with %v", err)
	}
	if got := s.Progress(); got.FilesDone == 0 || got.FilesTotal != 300 {
		t.Errorf("progress %+v", got)
	}
	s.reopen(nil, nil)
	if !s.Seeding() || s.NeedsSeed() {
		t.Fatal("the seed is forgotten")
	}
	c.limit = 0
	p.barrier()
	s.receive(p)
	must(t, s.Step(t.Context()))
	same(t, p, s)
	if c.chunks > 300+64 { // the group that was under way
		t.Errorf("%d chunks were fetched for 300 files", c.chunks)
	}
	if got := s.Progress(); got.FilesDone != 300 || got.BytesDone != got.BytesTotal {
		t.Errorf("progress %+v", got)
	}
	if s.Seeding() {
		t.Error("still seeding")
	}
}

// TestSeedAhead: what was staged before the first barrier came is not looked at
// again if that brings nothing new, and is if it does.
func TestSeedAhead(t *testing.T) {
	for _, changed := range []bool{false, true} {
		p := newPrimary(t)
		p.files("many", 50)
		p.barrier()
		s := newStandby(t, p)
		looks := 0
		s.hook = func(op tree.Op) error {
			if op.Name == "lstat" && op.Place.Area == tree.AreaOwn {
				looks++
			}
			return nil
		}
		staged := -1
		s.point = func(point string) error {
			if point == PointStaged {
				staged = looks
			}
			return nil
		}
		must(t, s.start())
		must(t, s.Seed(t.Context(), p.manifest()))
		must(t, s.Step(t.Context()))
		if changed {
			p.write("many/1/f1", "something else")
		}
		p.barrier()
		s.receive(p)
		looks = 0
		must(t, s.Step(t.Context()))
		same(t, p, s)
		if again := staged >= 50; again != changed {
			t.Errorf("changed %v: %d staged objects were looked at again", changed, staged)
		}
	}
}

// TestSeedSharesData: of files with the same data one is fetched.
func TestSeedSharesData(t *testing.T) {
	p := newPrimary(t)
	for i := range twinsMost + 4 {
		for j := range 20 {
			p.write(fmt.Sprintf("copy%d/f%d", i, j), fmt.Sprintf("data of %d", j))
		}
	}
	noise := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(noise) // never fails
	for i := range 3 {                              // they share chunks, but aren't the same
		p.write(fmt.Sprintf("long%d", i), string(noise)+strings.Repeat("end", i))
	}
	p.barrier()
	wanted := len(p.store)
	for _, bounds := range [...]struct {
		late   uint64
		queued int
	}{{lateMost, queuedMost}, {1, queuedMost}, {lateMost, 3}} {
		func() {
			late, queued := lateMost, queuedMost
			defer func() { lateMost, queuedMost = late, queued }()
			lateMost, queuedMost = bounds.late, bounds.queued
			c := &counting{primary: p}
			s := newStandby(t, c)
			must(t, s.start())
			seed(t, p, s)
			if c.chunks != wanted {
				t.Errorf("%+v: %d chunks were fetched, want %d", bounds, c.chunks, wanted)
			}
		}()
	}
}

// TestSeedOverCopy: what lies in the standby's directory already is reused where
// it is, and under other names.
func TestSeedOverCopy(t *testing.T) {
	p := newPrimary(t)
	p.files("same", 100)
	p.write("changed", "new content")
	p.write("renamed/new name", "content of a renamed file")
	p.write("meta", "only its mode differs")
	must(t, os.Link(p.at("same/0/f0"), p.at("hard")))
	must(t, os.Symlink("target", p.at("link")))
	must(t, os.WriteFile(p.at("sparse"), nil, 0o600))
	must(t, os.Truncate(p.at("sparse"), 1<<20))
	c := &counting{primary: p}
	s := newStandby(t, c)
	run(t, "cp", "-a", p.dir+"/.", s.dir)
	s.put("changed", "old content")
	must(t, os.Chmod(filepath.Join(s.dir, "meta"), 0o600))
	must(t, os.RemoveAll(filepath.Join(s.dir, "renamed")))
	s.put("old name", "content of a renamed file")
	must(t, os.MkdirAll(filepath.Join(s.dir, "extra/dir"), 0o755))
	s.put("extra/dir/file", "not in the base")
	must(t, os.Remove(filepath.Join(s.dir, "hard")))
	s.put("hard", "in the way of a hard link")
	must(t, os.Remove(filepath.Join(s.dir, "link")))
	must(t, os.Symlink("elsewhere", filepath.Join(s.dir, "link")))
	must(t, s.start())
	seed(t, p, s)
	if c.chunks != 1 {
		t.Errorf("%d chunks were fetched, want 1: the changed file's", c.chunks)
	}
	all := strings.Join(values(salvagedFiles(t, s)), "\n")
	for _, want := range []string{"old content", "content of a renamed file", "not in the base", "in the way of a hard link"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q isn't in salvage", want)
		}
	}
	if s.has(health.ForeignWrite) {
		t.Error("a seed isn't a foreign write")
	}
	p.write("after", "the seed")
	p.mv("same/1", "moved")
	s.sync(p)
	same(t, p, s)
}

// TestSeedHalts: a directory that holds something else isn't swept away.
func TestSeedHalts(t *testing.T) {
	p := newPrimary(t)
	p.files("tree", 20)
	p.barrier()
	s := newStandby(t, p)
	for i := range 30 {
		s.put(fmt.Sprintf("precious%d", i), "precious")
	}
	want := listing(t, s.dir)
	must(t, s.start())
	err := s.Seed(t.Context(), p.manifest())
	var halted *ErrSeedHalted
	if !errors.As(err, &halted) || halted.Entries != 30 || halted.Missing != 30 || len(halted.Examples) == 0 {
		t.Fatalf("seed: %v", err)
	}
	if !s.has(health.SeedHalted) || !s.NeedsSeed() {
		t.Error("not halted")
	}
	if got := listing(t, s.dir); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the tree was changed: %v", got)
	}
	must(t, s.Resume(true))
	seed(t, p, s)
	if n := len(salvagedFiles(t, s)); n != 30 {
		t.Errorf("%d files in salvage, want 30", n)
	}
	if s.has(health.SeedHalted) {
		t.Error("still halted")
	}
}

// TestSeedAgain: a new base over a standby that was already in use; its tree is
// what most of the data comes from.
func TestSeedAgain(t *testing.T) {
	p := newPrimary(t)
	p.files("a", 50)
	c := &counting{primary: p}
	s := newStandby(t, c)
	must(t, s.start())
	seed(t, p, s)
	c.chunks = 0
	p.write("a/0/f0", "changed meanwhile")
	p.mv("a/1", "b")
	p.barrier()
	must(t, s.Seed(t.Context(), p.manifest()))
	seed(t, p, s)
	if c.chunks != 1 {
		t.Errorf("%d chunks were fetched, want 1", c.chunks)
	}
}

// TestGoneWhileSeeding: a file that changed on the primary before it was fetched
// comes with the next barrier.
func TestGoneWhileSeeding(t *testing.T) {
	p := newPrimary(t)
	p.files("a", 10)
	p.write("hot", "first version")
	noise := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{4}).Read(noise) // never fails
	p.write("long", string(noise))
	p.write("longer", string(noise)+"end") // it waits for the one that has the same chunks
	p.barrier()
	m := p.manifest()
	before := len(p.store)
	for d, data := range p.store {
		if string(data) == "first version" {
			p.gone[d] = true
		}
	}
	if len(p.gone) != 1 || before == 0 {
		t.Fatal("no such chunk")
	}
	s := newStandby(t, p)
	must(t, s.start())
	must(t, s.Seed(t.Context(), m))
	must(t, s.Step(t.Context()))
	first := p.barrier()
	s.receive(p)
	if err := s.Step(t.Context()); !errors.Is(err, ErrIncomplete) {
		t.Fatalf("a barrier without its data: %v", err)
	}
	if !s.has(health.ChunkMissing) {
		t.Error("no chunk-missing condition")
	}
	if got := s.Lacks(); got != first.ID {
		t.Errorf("it says that barrier %v lacks data, wanted %v", got, first.ID)
	}
	p.write("hot", "second version")
	s.sync(p)
	same(t, p, s)
	if s.has(health.ChunkMissing) {
		t.Error("chunk-missing stands")
	}
	if got := s.Lacks(); !got.IsZero() {
		t.Errorf("it still says that barrier %v lacks data", got)
	}
}

// TestRottenSource: a chunk that is rotten in the tree is found elsewhere.
func TestRottenSource(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "some content")
	c := &counting{primary: p}
	s := newStandby(t, c)
	must(t, s.start())
	seed(t, p, s)
	info, err := os.Stat(filepath.Join(s.dir, "a"))
	must(t, err)
	s.put("a", "rotten bytes")
	must(t, os.Chtimes(filepath.Join(s.dir, "a"), info.ModTime(), info.ModTime()))
	c.chunks = 0
	p.write("copy", "some content")
	s.sync(p)
	if c.chunks != 1 {
		t.Errorf("%d chunks were fetched, want 1", c.chunks)
	}
	report, err := s.Verify(t.Context(), VerifyOptions{})
	must(t, err)
	if report.Count != 1 || report.Differences[0] != (Difference{"tree/a", DiffersContent}) || !s.has(health.VerifyDiffers) {
		t.Errorf("verify: %+v", report)
	}
	report, err = s.Verify(t.Context(), VerifyOptions{Repair: true})
	must(t, err)
	if report.Repaired != 1 || s.has(health.VerifyDiffers) {
		t.Errorf("repair: %+v", report)
	}
	same(t, p, s)
}

// TestNoDataForCopies: a rename, a copy, a restored version cost no data.
func TestNoDataForCopies(t *testing.T) {
	p := newPrimary(t)
	p.files("a", 50)
	c := &counting{primary: p}
	s := newStandby(t, c)
	must(t, s.start())
	seed(t, p, s)
	c.chunks = 0
	end := p.log.End().Offset
	run(t, "cp", "-a", p.at("a"), p.at("b"))
	p.mv("a", "c")
	s.sync(p)
	same(t, p, s)
	if c.chunks != 0 {
		t.Errorf("%d chunks were fetched", c.chunks)
	}
	t.Logf("log: %d bytes", p.log.End().Offset-end)
}

// TestSeveralBarriersAsOne: what came while it was paused is published at once.
func TestSeveralBarriersAsOne(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "1")
	s := seeded(t, p)
	must(t, s.Pause(t.Context()))
	var applied []change.BarrierID
	s.o.OnApplied = func(c change.Certificate, _ change.LogPosition) { applied = append(applied, c.ID) }
	for i := range 5 {
		p.write("a", fmt.Sprint(i))
		p.write(fmt.Sprint("new", i), fmt.Sprint(i))
		if i > 0 {
			must(t, os.Remove(p.at(fmt.Sprint("new", i-1))))
		}
		p.barrier()
		s.receive(p)
		must(t, s.Step(t.Context()))
	}
	if len(applied) != 0 {
		t.Fatal("applied while paused")
	}
	must(t, s.Resume(false))
	must(t, s.Step(t.Context()))
	if len(applied) != 1 {
		t.Errorf("applied %v, want one barrier", applied)
	}
	same(t, p, s)
}
