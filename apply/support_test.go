package apply

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/health"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
)

// standby is an applier with its parts.
type standby struct {
	t     testing.TB
	base  string // the state directory
	dir   string // the tree
	log   *journal.Log
	cat   *catalog.Catalog
	vol   *tree.Volume
	board *health.Board
	*Applier

	fetch Fetcher
	hook  func(tree.Op) error
	point func(string) error
	redo  uint64

	options func(*Options)
	staging string
}

func newStandby(t testing.TB, fetch Fetcher) *standby {
	t.Helper()
	base := t.TempDir()
	s := &standby{t: t, base: filepath.Join(base, "state"), dir: filepath.Join(base, "standby"), fetch: fetch}
	must(t, os.Mkdir(s.dir, 0o755))
	t.Cleanup(func() { exec.Command("chmod", "-R", "u+rwx", base).Run() })
	must(t, os.MkdirAll(filepath.Join(s.base, "log"), 0o700))
	t.Cleanup(s.stop)
	return s
}

// start opens everything.
func (s *standby) start() error {
	s.t.Helper()
	var err error
	if s.log, err = journal.Open(filepath.Join(s.base, "log"), journal.Options{}); err != nil {
		return err
	}
	if s.cat, err = catalog.Open(filepath.Join(s.base, "catalog.db"), catalog.Options{}); err != nil {
		return err
	}
	if s.vol, err = tree.OpenVolume(s.dir, tree.VolumeOptions{Staging: s.staging}); err != nil {
		return err
	}
	s.board = health.NewBoard(nil)
	var fsys tree.FS = s.vol
	if s.hook != nil {
		fsys = tree.WithHook(fsys, s.hook)
	}
	o := Options{
		Dir: s.base, Trees: []Tree{{Name: "tree", FS: fsys, Root: s.vol.Root()}}, Log: s.log, Catalog: s.cat,
		Fetch: s.fetch, Board: s.board, Hook: s.point, RedoMin: s.redo, History: History{Keep: time.Hour}, Guard: 100,
	}
	if s.options != nil {
		s.options(&o)
	}
	s.Applier, err = Open(o)
	return err
}

// stop closes everything, as far as it was opened.
func (s *standby) stop() {
	if s.Applier != nil {
		s.Applier.Close()
	}
	if s.vol != nil {
		s.vol.Close()
	}
	if s.cat != nil {
		s.cat.Close()
	}
	if s.log != nil {
		s.log.Close()
	}
	s.Applier, s.vol, s.cat, s.log = nil, nil, nil, nil
}

// receive brings the primary's log over.
func (s *standby) receive(p *primary) {
	s.t.Helper()
	s.receiveTo(p, p.log.End().Offset)
}

// receiveTo brings it over up to an offset.
func (s *standby) receiveTo(p *primary, end uint64) {
	s.t.Helper()
	for _, inc := range p.log.Incarnations() {
		must(s.t, s.log.SetIncarnation(inc.ID))
	}
	buf := make([]byte, 1<<20)
	for s.log.End().Offset < end {
		at := s.log.End().Offset
		n, err := p.log.ReadBlock(buf[:min(uint64(len(buf)), end-at)], at)
		must(s.t, err)
		must(s.t, s.log.AppendRaw(at, buf[:n]))
	}
	must(s.t, s.log.Sync())
}

// seeded returns a pair whose standby has applied the primary's first barrier.
func seeded(t testing.TB, p *primary) *standby {
	t.Helper()
	s := newStandby(t, p)
	must(t, s.start())
	seed(t, p, s)
	return s
}

func seed(t testing.TB, p *primary, s *standby) {
	t.Helper()
	if p.seq == 0 {
		p.barrier()
	}
	must(t, s.Seed(t.Context(), p.manifest()))
	must(t, s.Step(t.Context()))
	p.barrier()
	s.receive(p)
	must(t, s.Step(t.Context()))
	same(t, p, s)
}

// sync cuts a barrier and applies it.
func (s *standby) sync(p *primary) {
	s.t.Helper()
	b := p.barrier()
	s.receive(p)
	must(s.t, s.Step(s.t.Context()))
	if cert, _ := s.Applied(); cert.ID != b.ID {
		s.t.Fatalf("applied %s, want %s", cert.ID, b.ID)
	}
}

// same compares the two trees by means that are none of ours, where there are
// any, and sees to it that nothing is left over.
func same(t testing.TB, p *primary, s *standby) {
	t.Helper()
	got, want := listing(t, s.dir), listing(t, p.dir)
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got[path] != want[path] {
			t.Errorf("%q: got  %s\nwant %s", path, got[path], want[path])
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[path]; !ok {
			t.Errorf("%q shouldn't be there: %s", path, got[path])
		}
	}
	if _, err := exec.LookPath("rsync"); err == nil {
		out, err := exec.Command("rsync", "-aHAXSn", "--checksum", "--modify-window=-1", "--delete", "-i", p.dir+"/", s.dir+"/").CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("rsync finds differences: %v\n%s", err, out)
		}
	}
	if s.vol != nil {
		must(t, eachStage(s.vol, func(dir, name string) error {
			t.Errorf("left over in the staging directory: %s", dir+name)
			return nil
		}))
	}
	if t.Failed() {
		if s.vol != nil {
			manifests, _ := filepath.Glob(filepath.Join(s.vol.OwnPath(), salvageDir, "*", salvageManifest))
			for _, name := range manifests {
				b, _ := os.ReadFile(name)
				t.Logf("%s:\n%s", name, b)
			}
		}
		t.FailNow()
	}
}

// listing describes every object below dir.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	root, err := tree.Open(dir, tree.Options{})
	must(t, err)
	defer root.Close()
	rd := root.NewReader()
	defer rd.Close()
	out := map[string]string{}
	first := map[change.ObjectID]string{}
	var walk func(path string)
	walk = func(path string) {
		st, err := rd.Lstat(path)
		must(t, err)
		if st.Kind == 0 {
			return
		}
		meta, err := rd.Meta(path, &st)
		must(t, err)
		content := ""
		if st.Kind == change.KindFile {
			data, err := os.ReadFile(filepath.Join(dir, path))
			must(t, err)
			sum := blake3.Sum256(data)
			content = fmt.Sprintf("%d bytes %x", len(data), sum[:6])
		}
		link := ""
		if st.Nlink > 1 && st.Kind != change.KindDir {
			if link = first[st.ID]; link == "" {
				first[st.ID] = path
			}
		}
		out[path] = fmt.Sprintf("%v %+v %s nlink %d as %q", st.Kind, meta, content, st.Nlink, link)
		if st.Kind == change.KindDir {
			out[path] = fmt.Sprintf("%v %+v", st.Kind, meta)
			entries, err := rd.ReadDir(path)
			must(t, err)
			for _, e := range entries {
				walk(change.Join(path, e.Name))
			}
		}
	}
	walk("")
	return out
}

// salvagedFiles returns what was salvaged: path below files/TREE → content.
func salvagedFiles(t testing.TB, s *standby) map[string]string {
	t.Helper()
	out := map[string]string{}
	dir := filepath.Join(s.vol.OwnPath(), salvageDir)
	must(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() || info.Name() == salvageManifest {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		data, err := os.ReadFile(path)
		out[rel] = string(data)
		return err
	}))
	return out
}
