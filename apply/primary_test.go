package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/chunker"
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
	other string        // the directory of a second tree, "other"; "": there is none
	root2 change.NodeID // of that
	seq   uint64
	epoch change.Epoch             // 0 means 1
	store map[change.Digest][]byte // every chunk that ever was
	gone  map[change.Digest]bool   // chunks that aren't given away any more
	lost  map[change.Digest]bool   // chunks whose data is left out of the log
	away  bool                     // there is no session
	// trusting has it read only what shows a change, for benchmarks of large trees.
	trusting bool
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
			ID: change.BarrierID{Epoch: max(p.epoch, 1), Seq: p.seq}, CutAt: time.Now().UTC(), Tree: digest, Portable: portable,
			Files: files, Bytes: bytes, Rung: change.RungOptimistic,
		}, Chain: p.log.End().Chain}
		p.emit(tx, &b)
		return nil
	}))
	must(p.t, p.log.Sync())
	return b
}

func (p *primary) capture(tx *catalog.Tx) {
	names := map[nameKey]change.NodeID{}
	p.captureTree(tx, "tree", p.dir, names)
	if p.other != "" {
		p.root, p.root2 = p.root2, p.root
		p.captureTree(tx, "other", p.other, names)
		p.root, p.root2 = p.root2, p.root
	}
	for key, id := range names {
		if now, ok := tx.Lookup(key.parent, key.name); !ok || now != id {
			p.emit(tx, &change.Link{Parent: key.parent, Name: key.name, Node: id})
		}
	}
	live := map[change.NodeID]bool{}
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

func (p *primary) captureTree(tx *catalog.Tx, name, dir string, names map[nameKey]change.NodeID) {
	root, err := tree.Open(dir, tree.Options{})
	must(p.t, err)
	defer root.Close()
	rd := root.NewReader()
	defer rd.Close()
	if p.root == 0 {
		p.root = tx.NewNode()
	}
	names[nameKey{change.GroupNode, name}] = p.root
	p.object(tx, rd, "", p.root, names)
	p.walk(tx, rd, "", p.root, names)
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
	was, known, err := tx.Node(id)
	must(p.t, err)
	if known && p.trusting && was.Local.Same(&st) {
		return
	}
	meta, err := rd.Meta(path, &st)
	must(p.t, err)
	if !known || !was.Meta.Equal(&meta) {
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
	if p.away {
		return change.ErrNoPeer
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
