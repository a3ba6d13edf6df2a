package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/chunker"
	"repld/health"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
)

// primary turns a directory into records: a small stand-in for capture, which
// scans everything at each barrier.
type primary struct {
	t     testing.TB
	dir   string
	log   *journal.Log
	cat   *catalog.Catalog
	root  change.NodeID
	seq   uint64
	store map[change.Digest][]byte // every chunk that ever was
	gone  map[change.Digest]bool   // chunks that aren't given away any more
	lost  map[change.Digest]bool   // chunks whose data is left out of the log
}

func newPrimary(t testing.TB) *primary {
	t.Helper()
	base := t.TempDir()
	p := &primary{t: t, dir: filepath.Join(base, "source"), store: map[change.Digest][]byte{}, gone: map[change.Digest]bool{}, lost: map[change.Digest]bool{}}
	must(t, os.Mkdir(p.dir, 0o755))
	t.Cleanup(func() { exec.Command("chmod", "-R", "u+rwx", base).Run() }) // so that it can be removed without privileges
	must(t, os.Mkdir(filepath.Join(base, "log"), 0o700))
	var err error
	p.log, err = journal.Open(filepath.Join(base, "log"), journal.Options{})
	must(t, err)
	t.Cleanup(func() { p.log.Close() })
	must(t, p.log.SetIncarnation(change.NewIncarnation()))
	p.cat, err = catalog.Open(filepath.Join(base, "catalog.db"), catalog.Options{NoSync: true})
	must(t, err)
	t.Cleanup(func() { p.cat.Close() })
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// emit appends a record to the log and applies it to the catalog.
func (p *primary) emit(tx *catalog.Tx, rec change.Record) {
	p.t.Helper()
	must(p.t, tx.Apply(rec))
	_, err := p.log.Append(rec)
	must(p.t, err)
}

type nameKey struct {
	parent change.NodeID
	name   string
}

// barrier captures the directory and cuts a barrier.
func (p *primary) barrier() change.Barrier {
	p.t.Helper()
	var b change.Barrier
	must(p.t, p.cat.Update(func(tx *catalog.Tx) error {
		p.capture(tx)
		p.seq++
		must(p.t, tx.Collect())
		digest, portable, files, bytes, err := tx.Seal()
		must(p.t, err)
		b = change.Barrier{Certificate: change.Certificate{
			ID: change.BarrierID{Epoch: 1, Seq: p.seq}, CutAt: time.Now().UTC(), Tree: digest, Portable: portable,
			Files: files, Bytes: bytes, Rung: change.RungOptimistic,
		}, Chain: p.log.End().Chain}
		p.emit(tx, &b)
		return nil
	}))
	must(p.t, p.log.Sync())
	return b
}

func (p *primary) capture(tx *catalog.Tx) {
	root, err := tree.Open(p.dir, tree.Options{})
	must(p.t, err)
	defer root.Close()
	rd := root.NewReader()
	defer rd.Close()
	if p.root == 0 {
		p.root = tx.NewNode()
	}
	names := map[nameKey]change.NodeID{{change.GroupNode, "tree"}: p.root}
	p.object(tx, rd, "", p.root, names)
	p.walk(tx, rd, "", p.root, names)
	for key, id := range names {
		if now, ok := tx.Lookup(key.parent, key.name); !ok || now != id {
			p.emit(tx, &change.Link{Parent: key.parent, Name: key.name, Node: id})
		}
	}
	live := map[change.NodeID]bool{p.root: true}
	for _, id := range names {
		live[id] = true
	}
	for id := range live {
		var gone []string
		for name := range tx.Children(id, "") {
			if _, ok := names[nameKey{id, name}]; !ok {
				gone = append(gone, name)
			}
		}
		for _, name := range gone {
			p.emit(tx, &change.Unlink{Parent: id, Name: name})
		}
	}
}

func (p *primary) walk(tx *catalog.Tx, rd *tree.Reader, path string, dir change.NodeID, names map[nameKey]change.NodeID) {
	entries, err := rd.ReadDir(path)
	must(p.t, err)
	for _, e := range entries {
		at := change.Join(path, e.Name)
		st, err := rd.Lstat(at)
		must(p.t, err)
		if st.Kind == 0 {
			continue
		}
		id, ok := tx.ByObject(p.root, st.ID)
		if !ok || tx.Kind(id) != st.Kind {
			id = tx.NewNode()
		}
		p.object(tx, rd, at, id, names)
		names[nameKey{dir, e.Name}] = id
		if st.Kind == change.KindDir {
			p.walk(tx, rd, at, id, names)
		}
	}
}

func (p *primary) object(tx *catalog.Tx, rd *tree.Reader, path string, id change.NodeID, names map[nameKey]change.NodeID) {
	st, err := rd.Lstat(path)
	must(p.t, err)
	meta, err := rd.Meta(path, &st)
	must(p.t, err)
	if n, ok, _ := tx.Node(id); !ok || !n.Meta.Equal(&meta) {
		p.emit(tx, &change.Put{Node: id, Kind: st.Kind, Meta: meta})
	}
	must(p.t, tx.SetLocal(id, catalog.LocalOf(p.root, &st, time.Now())))
	if st.Kind != change.KindFile {
		return
	}
	f, err := rd.OpenFile(path)
	must(p.t, err)
	defer f.Close()
	var refs []change.ChunkRef
	must(p.t, f.Segments(func(off, length int64, hole bool) error {
		if hole {
			refs = append(refs, change.ChunkRef{Length: uint64(length)})
			return nil
		}
		c := chunker.New(io.NewSectionReader(f, off, length), chunker.Options{})
		for {
			data, err := c.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			must(p.t, err)
			refs = append(refs, p.chunk(tx, data))
		}
	}))
	p.splice(tx, id, refs)
}

func (p *primary) chunk(tx *catalog.Tx, data []byte) change.ChunkRef {
	d := change.Digest(blake3.Sum256(data))
	if _, ok := p.store[d]; !ok {
		p.store[d] = slices.Clone(data)
	}
	if !tx.Known(d) && !p.lost[d] {
		codec, enc := journal.EncodeChunk(nil, data)
		_, err := p.log.Append(&change.Chunk{Digest: d, Codec: codec, RawLen: uint32(len(data)), Data: enc})
		must(p.t, err)
	}
	return change.ChunkRef{Digest: d, Length: uint64(len(data))}
}

// splice replaces what differs between the old and the new list.
func (p *primary) splice(tx *catalog.Tx, id change.NodeID, refs []change.ChunkRef) {
	var old []change.ChunkRef
	for r := range tx.Refs(id, 0) {
		old = append(old, r.ChunkRef)
	}
	if slices.Equal(old, refs) {
		return
	}
	front := 0
	for front < len(old) && front < len(refs) && old[front] == refs[front] {
		front++
	}
	back := 0
	for back < len(old)-front && back < len(refs)-front && old[len(old)-1-back] == refs[len(refs)-1-back] {
		back++
	}
	s := &change.Splice{Node: id, At: uint64(front), Remove: uint64(len(old) - front - back)}
	for part := range slices.Chunk(append(refs[front:len(refs)-back:len(refs)-back], change.ChunkRef{})[:len(refs)-back-front], change.SpliceMax) {
		s.Refs = part
		p.emit(tx, s)
		s = &change.Splice{Node: id, At: s.At + uint64(len(part))}
	}
	if len(s.Refs) == 0 && s.Remove > 0 {
		p.emit(tx, s)
	}
}

// manifest is the base as it is now.
func (p *primary) manifest() Manifest {
	var records []change.Record
	m := Manifest{Position: p.log.End()}
	must(p.t, p.cat.View(func(tx *catalog.Tx) error {
		for id, n := range tx.Nodes(0) {
			records = append(records, &change.Put{Node: id, Kind: n.Kind, Meta: n.Meta})
			s := &change.Splice{Node: id}
			for r := range tx.Refs(id, 0) {
				s.Refs = append(s.Refs, r.ChunkRef)
				if len(s.Refs) == change.SpliceMax {
					records = append(records, s)
					s = &change.Splice{Node: id, At: s.At + change.SpliceMax}
				}
			}
			if len(s.Refs) > 0 {
				records = append(records, s)
			}
			m.Bytes += n.Size
			if n.Kind != change.KindDir {
				m.Files++
			}
		}
		for id := range tx.Nodes(0) {
			for parent, name := range tx.Names(id) {
				records = append(records, &change.Link{Parent: parent, Name: name, Node: id})
			}
		}
		return nil
	}))
	m.Records = func(yield func(change.Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
	return m
}

// Fetch makes primary a Fetcher.
func (p *primary) Fetch(ctx context.Context, digests []change.Digest, each func(change.Digest, []byte) error) error {
	if len(digests) > FetchMax {
		return fmt.Errorf("%d digests in one request", len(digests))
	}
	for _, d := range digests {
		data := p.store[d]
		if p.gone[d] {
			data = nil
		}
		if err := each(d, data); err != nil {
			return err
		}
	}
	return ctx.Err()
}

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
	if s.vol, err = tree.OpenVolume(s.dir, tree.VolumeOptions{}); err != nil {
		return err
	}
	s.board = health.NewBoard(nil)
	var fsys tree.FS = s.vol
	if s.hook != nil {
		fsys = tree.WithHook(fsys, s.hook)
	}
	s.Applier, err = Open(Options{
		Dir: s.base, Trees: []Tree{{Name: "tree", FS: fsys, Root: s.vol.Root()}}, Log: s.log, Catalog: s.cat,
		Fetch: s.fetch, Board: s.board, Hook: s.point, RedoMin: s.redo,
	})
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

var _ iter.Seq2[change.Record, error] = Manifest{}.Records
