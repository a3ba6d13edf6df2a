package catalog

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/zeebo/blake3"

	"repld/change"
)

func someChunk(n uint64) change.ChunkRef {
	return change.ChunkRef{Digest: blake3.Sum256(binary.BigEndian.AppendUint64(nil, n)), Length: 1000}
}

// addFiles makes n small files, 40 to a directory, the way a first scan does.
func addFiles(b *testing.B, c *Catalog, n int) {
	const batch = 1000 // files per transaction
	dir, inDir := change.NodeID(0), 40
	for at := 0; at < n; at += batch {
		must(b, c.Update(func(tx *Tx) error {
			for i := at; i < min(n, at+batch); i++ {
				if inDir == 40 {
					inDir = 0
					parent := dir
					if dir = tx.NewNode(); dir > 1 {
						parent = 1
					}
					if err := add(tx, parent, fmt.Sprint("dir", dir), dir, change.KindDir, i); err != nil {
						return err
					}
				}
				inDir++
				id := tx.NewNode()
				if err := add(tx, dir, fmt.Sprint("some-file-", i, ".go"), id, change.KindFile, i); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	must(b, c.Update(func(tx *Tx) error { return tx.Apply(&change.Barrier{}) }))
}

func add(tx *Tx, parent change.NodeID, name string, id change.NodeID, kind change.Kind, i int) error {
	if err := tx.Apply(&change.Put{Node: id, Kind: kind, Meta: meta(0o644)}); err != nil {
		return err
	}
	if kind == change.KindFile {
		ref := someChunk(uint64(i))
		if tx.Known(ref.Digest) {
			return fmt.Errorf("chunk %d is known", i)
		}
		if err := tx.Apply(&change.Splice{Node: id, Refs: []change.ChunkRef{ref}}); err != nil {
			return err
		}
	}
	if err := tx.Apply(&change.Link{Parent: parent, Name: name, Node: id}); err != nil {
		return err
	}
	l := Local{ObjectID: change.ObjectID{Ino: uint64(id) * 7, Birth: change.Time{Sec: 1}}, Size: 1000, Nlink: 1, Blocks: 8}
	return tx.SetLocal(id, l)
}

// BenchmarkImport is a first scan of 46,000 small files with one chunk each.
func BenchmarkImport(b *testing.B) {
	for range b.N {
		c := fresh(b)
		addFiles(b, c, 46_000)
	}
}

// BenchmarkOneChange is one changed file among 46,000, with its barrier, commit included.
func BenchmarkOneChange(b *testing.B) {
	c := fresh(b)
	addFiles(b, c, 46_000)
	b.ResetTimer()
	for i := range b.N {
		rec := &change.Put{Node: 12345, Kind: change.KindFile, Meta: meta(uint32(i) & 0o777)}
		apply(b, c, rec, &change.Barrier{})
	}
}

// BenchmarkRenameDirectory renames the directory that all 46,000 files are in.
func BenchmarkRenameDirectory(b *testing.B) {
	c := fresh(b)
	addFiles(b, c, 46_000)
	b.ResetTimer()
	for i := range b.N {
		apply(b, c, &change.Link{Name: fmt.Sprint("new", i), Node: 1},
			&change.Unlink{Name: map[bool]string{true: "dir1", false: fmt.Sprint("new", i-1)}[i == 0]}, &change.Barrier{})
	}
}

// BenchmarkMillionNames changes one file in a directory of a million names.
func BenchmarkMillionNames(b *testing.B) {
	c := fresh(b)
	apply(b, c, &change.Put{Node: 1, Kind: change.KindDir, Meta: meta(0o755)}, &change.Link{Name: "tree", Node: 1})
	const names = 1_000_000
	for at := 0; at < names; at += 10_000 {
		must(b, c.Update(func(tx *Tx) error {
			for i := at; i < at+10_000; i++ {
				id := change.NodeID(i + 2)
				if err := applyAll(tx, []change.Record{
					&change.Put{Node: id, Kind: change.KindFile, Meta: meta(0o644)},
					&change.Link{Parent: 1, Name: fmt.Sprintf("%08x", uint32(i)*2654435761), Node: id},
				}); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	apply(b, c, &change.Barrier{})
	b.ResetTimer()
	for i := range b.N {
		apply(b, c, &change.Put{Node: change.NodeID(2 + i*977%names), Kind: change.KindFile, Meta: meta(uint32(i) & 0o777)}, &change.Barrier{})
	}
}

// BenchmarkSplice replaces one reference in the middle of 100,000.
func BenchmarkSplice(b *testing.B) {
	c := fresh(b)
	longFile(b, c, 100_000)
	b.ResetTimer()
	for i := range b.N {
		apply(b, c, &change.Splice{Node: 2, At: 50_000, Remove: 1, Refs: []change.ChunkRef{someChunk(uint64(1<<40 + i))}}, &change.Barrier{})
	}
}

// BenchmarkReplaceLong puts another file of 32,768 references, a few of them
// different, in the place of one, in an overlay.
func BenchmarkReplaceLong(b *testing.B) {
	c := fresh(b)
	list := longFile(b, c, 32_768)
	for i := range 5 {
		list[i*1000] = someChunk(uint64(1<<40 + i))
	}
	b.ResetTimer()
	for range b.N {
		must(b, c.UpdateNext(func(tx *Tx) error {
			records := []change.Record{&change.Put{Node: 3, Kind: change.KindFile, Meta: meta(0o644)}}
			for at := 0; at < len(list); at += change.SpliceMax {
				records = append(records, &change.Splice{Node: 3, At: uint64(at), Refs: list[at:min(len(list), at+change.SpliceMax)]})
			}
			return applyAll(tx, append(records, &change.Link{Parent: 1, Name: "long", Node: 3}, &change.Barrier{}))
		}))
		b.StopTimer()
		must(b, c.DropNext())
		b.StartTimer()
	}
}

// BenchmarkMerge merges an overlay that changes all 46,000 files.
func BenchmarkMerge(b *testing.B) {
	c := fresh(b)
	addFiles(b, c, 46_000)
	for i := range b.N {
		b.StopTimer()
		must(b, c.UpdateNext(func(tx *Tx) error {
			for id := range tx.Before().Nodes(0) {
				if tx.Kind(id) == change.KindFile {
					if err := tx.Apply(&change.Put{Node: id, Kind: change.KindFile, Meta: meta(uint32(i) & 0o777)}); err != nil {
						return err
					}
				}
			}
			return tx.Apply(&change.Barrier{})
		}))
		b.StartTimer()
		must(b, c.MergeNext(b.Context()))
	}
}

func longFile(t testing.TB, c *Catalog, n int) (list []change.ChunkRef) {
	for i := range n {
		list = append(list, someChunk(uint64(i)))
	}
	apply(t, c, &change.Put{Node: 1, Kind: change.KindDir, Meta: meta(0o755)}, &change.Link{Name: "tree", Node: 1},
		&change.Put{Node: 2, Kind: change.KindFile, Meta: meta(0o644)}, &change.Link{Parent: 1, Name: "long", Node: 2})
	for at := 0; at < n; at += change.SpliceMax {
		apply(t, c, &change.Splice{Node: 2, At: uint64(at), Refs: list[at:min(n, at+change.SpliceMax)]})
	}
	apply(t, c, &change.Barrier{})
	return list
}

// BenchmarkOpen opens a catalog of 46,000 files, which is read as a whole.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "catalog")
	c, err := Open(path, Options{NoSync: true})
	must(b, err)
	addFiles(b, c, 46_000)
	must(b, c.Close())
	for b.Loop() {
		c, err := Open(path, Options{NoSync: true})
		must(b, err)
		must(b, c.Close())
	}
}
