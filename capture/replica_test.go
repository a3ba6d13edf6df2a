package capture

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"repld/change"
	"repld/journal"
	"repld/journal/catalog"
	"repld/watch"
)

// replica is what a standby knows: a base, and the records of the log since.
type replica struct {
	t       testing.TB
	catalog *catalog.Catalog
	at      uint64                   // of the log
	chunks  map[change.Digest][]byte // data that the log carried
	asks    bool                     // for chunks that the log lacks
	kinds   map[string]int           // records since count, by type
	data    int                      // bytes of chunks since count
}

// newReplica copies what r has captured so far.
func newReplica(r *rig) *replica {
	r.t.Helper()
	cat, err := catalog.Open(filepath.Join(r.t.TempDir(), "replica"), catalog.Options{NoSync: true})
	must(r.t, err)
	r.t.Cleanup(func() { must(r.t, cat.Close()) })
	p := &replica{t: r.t, catalog: cat, chunks: map[change.Digest][]byte{}}
	p.count()
	must(r.t, r.catalog.View(func(from *catalog.Tx) error {
		at, err := Position(from)
		p.at = at.Offset
		if err != nil {
			return err
		}
		return cat.Update(func(to *catalog.Tx) error { return copyGraph(to, from) })
	}))
	return p
}

func copyGraph(to, from *catalog.Tx) error {
	for id, n := range from.Nodes(0) {
		if err := to.Apply(&change.Put{Node: id, Kind: n.Kind, Meta: n.Meta}); err != nil {
			return err
		}
		var refs []change.ChunkRef
		for ref := range from.Refs(id, 0) {
			refs = append(refs, ref.ChunkRef)
		}
		for at := 0; at < len(refs); at += change.SpliceMax {
			page := refs[at:min(at+change.SpliceMax, len(refs))]
			if err := to.Apply(&change.Splice{Node: id, At: uint64(at), Refs: page}); err != nil {
				return err
			}
		}
	}
	for id := range from.Nodes(0) {
		for parent, name := range from.Names(id) {
			if err := to.Apply(&change.Link{Parent: parent, Name: name, Node: id}); err != nil {
				return err
			}
		}
	}
	return nil
}

// count starts counting records anew.
func (p *replica) count() { p.kinds, p.data = map[string]int{}, 0 }

// follow applies the log's records. Each barrier is checked against its
// certificate, and every chunk that it needs must be there.
func (p *replica) follow(log *journal.Log) {
	p.t.Helper()
	rd, err := log.Reader(p.at)
	must(p.t, err)
	must(p.t, p.catalog.Update(func(tx *catalog.Tx) error {
		for {
			rec, _, err := rd.Next()
			if errors.Is(err, io.EOF) {
				p.at = rd.Offset()
				return nil
			}
			if err != nil {
				return err
			}
			if err := p.apply(tx, rec); err != nil {
				return fmt.Errorf("%T: %w", rec, err)
			}
		}
	}))
}

func (p *replica) apply(tx *catalog.Tx, rec change.Record) error {
	p.kinds[fmt.Sprintf("%T", rec)[len("*change."):]]++
	switch rec := rec.(type) {
	case *change.Chunk:
		data, err := journal.DecodeChunk(nil, rec)
		if err != nil {
			return err
		}
		p.data += len(data)
		p.chunks[rec.Digest] = append([]byte(nil), data...)
	case *change.Splice:
		for _, ref := range rec.Refs {
			if _, sent := p.chunks[ref.Digest]; !ref.Hole() && !sent && !tx.Known(ref.Digest) && !p.asks {
				return fmt.Errorf("nobody has the chunk %v", ref.Digest)
			}
		}
	}
	return tx.Apply(rec)
}

// equals fails unless the barrier is what a fresh scan of the tree finds.
func (r *rig) equals(b change.Barrier) {
	r.t.Helper()
	fresh := &rig{t: r.t, dir: r.dir, state: r.t.TempDir(), backend: watch.Inotify}
	fresh.options, fresh.skip = r.options, r.skip
	fresh.up()
	defer fresh.down()
	want := fresh.barrier()
	if b.Tree == want.Tree && b.Files == want.Files && b.Bytes == want.Bytes {
		return
	}
	r.t.Errorf("barrier %v: %d files, %d bytes, %v; a fresh scan has %d, %d, %v", b.ID, b.Files, b.Bytes, b.Tree, want.Files, want.Bytes, want.Tree)
	had, has := r.listing(), fresh.listing()
	for path, line := range has {
		if had[path] != line {
			r.t.Errorf("%q: captured %q, want %q", path, had[path], line)
		}
	}
	for path := range had {
		if _, ok := has[path]; !ok {
			r.t.Errorf("%q: captured, and isn't there", path)
		}
	}
}

func (r *rig) listing() map[string]string {
	all := map[string]string{}
	must(r.t, r.catalog.View(func(tx *catalog.Tx) error {
		for id, n := range tx.Nodes(0) {
			for parent, name := range tx.Names(id) {
				_, dir, _ := tx.Path(parent)
				all[change.Join(dir, name)] = fmt.Sprint(n.Kind, " ", n.Meta, " ", n.Size, " ", n.Content)
			}
		}
		return nil
	}))
	return all
}
