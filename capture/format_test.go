package capture

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"repld/change"
	"repld/journal"
	"repld/journal/catalog"
	"repld/watch"
)

// update makes the fixture of the present format version anew:
//
//	go test ./capture -run TestFixture -update
//
// That of a version that was released must never change: a new format gets a new
// version first.
var update = flag.Bool("update", false, "make testdata/formats of the present version anew")

// formats holds a log, its catalog, and what is in them as text, for each version.
const formats = "../testdata/formats"

// presentFormats is the directory of the present versions: 1 of the log, 2 of the
// catalog.
const presentFormats = "2"

// TestFixture: the log and the catalog of each format version can be read, and hold
// what they held.
func TestFixture(t *testing.T) {
	if *update {
		makeFixture(t, filepath.Join(formats, presentFormats))
	}
	versions, err := os.ReadDir(formats)
	must(t, err)
	found := false
	for _, v := range versions {
		if !v.IsDir() {
			continue
		}
		found = found || v.Name() == presentFormats
		t.Run(v.Name(), func(t *testing.T) {
			from, dir := filepath.Join(formats, v.Name()), t.TempDir()
			must(t, os.CopyFS(filepath.Join(dir, "log"), os.DirFS(filepath.Join(from, "log"))))
			data, err := os.ReadFile(filepath.Join(from, "catalog.db"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, "catalog.db"), data, 0o600))
			want, err := os.ReadFile(filepath.Join(from, "log-and-catalog.txt"))
			must(t, err)
			got := describe(t, dir)
			if got != string(want) {
				t.Errorf("found\n%s\nwant\n%s", got, want)
			}
			goesOn(t, dir)
		})
	}
	if !found {
		t.Errorf("there is no fixture of version %s", presentFormats)
	}
}

// makeFixture captures a tree that has something of everything.
func makeFixture(t *testing.T, to string) {
	r := newRig(t, watch.Inotify, "")
	prepare(r)
	must(t, os.Remove(r.path("big")))
	must(t, os.WriteFile(r.path("noise"), noise(1, 40<<10), 0o640))
	must(t, os.WriteFile(r.path("large"), bytes.Repeat([]byte("0123456789abcdef"), 160<<10), 0o644)) // a long list of references
	r.up().step()
	r.barrier()
	must(t, os.Rename(r.path("a/deep"), r.path("b/deeper")))
	must(t, os.Remove(r.path("a/f")))
	r.write("\xffodd\n", "not UTF-8")
	must(t, unix.Mkfifo(r.path("fifo"), 0o600))
	must(t, unix.Setxattr(r.path("b/h"), "user.k", []byte("v"), 0))
	must(t, os.Truncate(r.path("b/two"), 1<<20)) // a hole
	r.appendTo("noise", noise(2, 8<<10))
	r.barrier()
	r.down()
	must(t, os.RemoveAll(filepath.Join(to, "log")))
	must(t, os.CopyFS(filepath.Join(to, "log"), os.DirFS(filepath.Join(r.state, "log"))))
	// As it is, the file is mostly room to grow.
	_ = os.Remove(filepath.Join(to, "catalog.db"))
	src, err := bbolt.Open(filepath.Join(r.state, "catalog"), 0o600, &bbolt.Options{ReadOnly: true})
	must(t, err)
	defer src.Close()
	dst, err := bbolt.Open(filepath.Join(to, "catalog.db"), 0o644, nil)
	must(t, err)
	must(t, bbolt.Compact(dst, src, 0))
	must(t, dst.Close())
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(to)))
	must(t, os.WriteFile(filepath.Join(to, "log-and-catalog.txt"), []byte(describe(t, dir)), 0o644))
}

// describe writes down what a log and its catalog hold, in words that don't depend
// on how they are stored.
func describe(t *testing.T, dir string) string {
	var out strings.Builder
	log, err := journal.Open(filepath.Join(dir, "log"), journal.Options{})
	must(t, err)
	defer log.Close()
	rd, err := log.Reader(log.Start())
	must(t, err)
	for {
		rec, _, err := rd.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		fmt.Fprintln(&out, describeRecord(t, rec))
	}
	cat, err := catalog.Open(filepath.Join(dir, "catalog.db"), catalog.Options{NoSync: true})
	must(t, err)
	defer cat.Close()
	must(t, cat.View(func(tx *catalog.Tx) error {
		at, err := Position(tx)
		fmt.Fprintf(&out, "catalog at %d, chain %v\n", at.Offset, at.Chain)
		for id, n := range tx.Nodes(0) {
			fmt.Fprintf(&out, "node %d: %v %+v, %d bytes, %d references, content %v, digest %v, %d links, object %+v\n",
				id, n.Kind, n.Meta, n.Size, n.Refs, n.Content, n.Digest, n.Links, n.Local)
			for parent, name := range tx.Names(id) {
				fmt.Fprintf(&out, "  %q in %d\n", name, parent)
			}
			for ref := range tx.Refs(id, 0) {
				fmt.Fprintf(&out, "  %d: %d bytes at %d, %v, known %v\n", ref.Index, ref.Length, ref.Offset, ref.Digest, ref.Hole() || tx.Known(ref.Digest))
			}
		}
		for b := range tx.Barriers() {
			fmt.Fprintf(&out, "barrier %+v\n", b)
		}
		return err
	}))
	return strings.ReplaceAll(out.String(), " Databases:[]", "") // what none of the first fixtures has
}

func describeRecord(t *testing.T, rec change.Record) string {
	switch rec := rec.(type) {
	case *change.Chunk:
		data, err := journal.DecodeChunk(nil, rec)
		must(t, err)
		return fmt.Sprintf("chunk %v of %d bytes", rec.Digest, len(data))
	case *change.Barrier:
		return fmt.Sprintf("barrier %+v", *rec)
	}
	return strings.ReplaceAll(fmt.Sprintf("%T %+v", rec, rec), "*change.", "")
}

// goesOn appends to the log and changes the catalog.
func goesOn(t *testing.T, dir string) {
	log, err := journal.Open(filepath.Join(dir, "log"), journal.Options{})
	must(t, err)
	defer log.Close()
	cat, err := catalog.Open(filepath.Join(dir, "catalog.db"), catalog.Options{NoSync: true})
	must(t, err)
	defer cat.Close()
	must(t, restore(log, cat))
	must(t, cat.Update(func(tx *catalog.Tx) error {
		root, ok := tx.Lookup(change.GroupNode, "tree")
		if !ok {
			return errors.New("there is no tree")
		}
		gone := &change.Unlink{Parent: root, Name: "noise"}
		if _, err := log.Append(gone); err != nil {
			return err
		}
		if err := tx.Apply(gone); err != nil {
			return err
		}
		if err := tx.Collect(); err != nil {
			return err
		}
		_, _, _, _, err := tx.Seal()
		return err
	}))
	must(t, log.Sync())
}
