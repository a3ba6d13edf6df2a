package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// withTree gives the primary a tree of files, captured in its catalog, and returns
// the files' digests.
func (p *pair) withTree(files map[string][]byte) map[string]change.Digest {
	t := p.t
	t.Helper()
	dir := t.TempDir()
	digests := map[string]change.Digest{}
	err := p.catalog.Update(func(tx *catalog.Tx) error {
		root := tx.NewNode()
		recs := []change.Record{
			&change.Put{Node: root, Kind: change.KindDir, Meta: change.Meta{Mode: 0o755}},
			&change.Link{Parent: change.GroupNode, Name: "tree", Node: root},
		}
		for name, data := range files {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				return err
			}
			digests[name] = blake3.Sum256(data)
			id := tx.NewNode()
			recs = append(recs, &change.Put{Node: id, Kind: change.KindFile, Meta: change.Meta{Mode: 0o644}},
				&change.Splice{Node: id, Refs: []change.ChunkRef{{Digest: digests[name], Length: uint64(len(data))}}},
				&change.Link{Parent: root, Name: name, Node: id})
		}
		for _, rec := range recs {
			if err := tx.Apply(rec); err != nil {
				return err
			}
		}
		_, _, _, _, err := tx.Seal()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	root, err := tree.Open(dir, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	p.sender.opts.Trees = []Tree{{Name: "tree", Root: root}}
	p.sender.opts.Position = func(*catalog.Tx) (change.LogPosition, error) { return p.from.End(), nil }
	return digests
}

func TestBaseIsPulled(t *testing.T) {
	p := newPair(t, nil)
	rng := rand.New(rand.NewPCG(13, 14))
	p.write(rng, 4)
	files := map[string][]byte{}
	for i := range 300 {
		files[fmt.Sprintf("file%03d", i)] = bytes.Repeat([]byte{byte(i), byte(i >> 8), 1}, 100+i)
	}
	digests := p.withTree(files)
	p.applier.base = false
	copied := openCatalog(t)
	p.applier.seed = func(_ context.Context, m *Manifest) error {
		if m.Files != 300 || m.Nodes != 301 {
			t.Errorf("manifest of %d nodes, %d files; want 301 and 300", m.Nodes, m.Files)
		}
		err := copied.Update(func(tx *catalog.Tx) error {
			for rec, err := range m.Records() {
				if err != nil {
					return err
				}
				if err := tx.Apply(rec); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		p.applier.set(func() { p.applier.base, p.applier.from = true, m.Position })
		return p.to.Reset(m.Position)
	}
	end := p.session()
	eventually(t, "the base is imported", func() bool { _, ok := p.applier.Base(); return ok })
	p.write(rng, 4)
	p.awaitEqual()
	if p.capture.demanded.Load() == 0 {
		t.Error("no barrier was demanded to end the base with")
	}
	if a, b := treeDigest(t, p.catalog), treeDigest(t, copied); a != b {
		t.Errorf("the copied catalog has tree %v, want %v", b, a)
	}
	t.Run("chunks", func(t *testing.T) { p.testFetch(t, files, digests) })
	end()
}

func treeDigest(t *testing.T, c *catalog.Catalog) (d change.Digest) {
	t.Helper()
	if err := c.Update(func(tx *catalog.Tx) (err error) {
		d, _, _, _, err = tx.Seal()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestManifestOrder: a node comes with its names, unless it has one in a directory that is
// younger than it; then they come at the end, in their order.
func TestManifestOrder(t *testing.T) {
	p := newPair(t, nil)
	p.withTree(map[string][]byte{"a": []byte("1"), "b": []byte("2")})
	var root, a, b, dir change.NodeID
	err := p.catalog.Update(func(tx *catalog.Tx) error {
		root, _ = tx.Lookup(change.GroupNode, "tree")
		a, _ = tx.Lookup(root, "a")
		b, _ = tx.Lookup(root, "b")
		dir = tx.NewNode()
		for _, rec := range []change.Record{
			&change.Put{Node: dir, Kind: change.KindDir, Meta: change.Meta{Mode: 0o755}},
			&change.Link{Parent: root, Name: "dir", Node: dir},
			&change.Link{Parent: dir, Name: "hard", Node: a},
		} {
			if err := tx.Apply(rec); err != nil {
				return err
			}
		}
		_, _, _, _, err := tx.Seal()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.applier.base = false
	got := make(chan []string, 1)
	p.applier.seed = func(_ context.Context, m *Manifest) error {
		var order []string
		for rec, err := range m.Records() {
			if err != nil {
				return err
			}
			switch r := rec.(type) {
			case *change.Put:
				order = append(order, fmt.Sprint("put ", r.Node))
			case *change.Link:
				order = append(order, fmt.Sprint("link ", r.Name, " ", r.Node))
			}
		}
		got <- order
		return io.ErrUnexpectedEOF
	}
	end := p.session()
	order := <-got
	end()
	want := []string{fmt.Sprint("put ", root), fmt.Sprint("link tree ", root)}
	for _, id := range []change.NodeID{min(a, b), max(a, b)} {
		want = append(want, fmt.Sprint("put ", id))
		if id == b {
			want = append(want, fmt.Sprint("link b ", id))
		}
	}
	want = append(want, fmt.Sprint("put ", dir), fmt.Sprint("link dir ", dir), fmt.Sprint("link a ", a), fmt.Sprint("link hard ", a))
	if !slices.Equal(order, want) {
		t.Errorf("the manifest has\n%q, want\n%q", order, want)
	}
}

func (p *pair) testFetch(t *testing.T, files map[string][]byte, digests map[string]change.Digest) {
	const gone = "file007"
	if err := os.WriteFile(filepath.Join(p.sender.opts.Trees[0].Root.Path(), gone), []byte("written since"), 0o644); err != nil {
		t.Fatal(err)
	}
	var ask []change.Digest
	want := map[change.Digest][]byte{}
	for name, d := range digests {
		ask = append(ask, d)
		want[d] = files[name]
	}
	unknown := change.Digest{1}
	ask, want[unknown], want[digests[gone]] = append(ask, unknown), nil, nil
	err := p.fetcher.Fetch(t.Context(), ask, func(d change.Digest, data []byte) error {
		if !bytes.Equal(data, want[d]) {
			t.Errorf("chunk %v has %d bytes, want %d", d, len(data), len(want[d]))
		}
		delete(want, d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(want) > 0 {
		t.Errorf("%d chunks were not answered", len(want))
	}
}

func TestFetchWithoutASession(t *testing.T) {
	p := newPair(t, nil)
	data := []byte("some data of a file")
	digests := p.withTree(map[string][]byte{"file": data})
	fetch := func() (got []byte, err error) {
		err = p.fetcher.Fetch(t.Context(), []change.Digest{digests["file"]}, func(_ change.Digest, data []byte) error {
			got = bytes.Clone(data)
			return nil
		})
		return got, err
	}
	if got, err := fetch(); got != nil || !errors.Is(err, change.ErrNoPeer) {
		t.Errorf("fetched %q; %v, want %v", got, err, change.ErrNoPeer)
	}
	end := p.session()
	<-p.applier.notified // who lacks something tries again
	if got, err := fetch(); err != nil || !bytes.Equal(got, data) {
		t.Errorf("fetched %q, want %q: %v", got, data, err)
	}
	end()
	if _, err := fetch(); !errors.Is(err, change.ErrNoPeer) {
		t.Errorf("after the session: %v, want %v", err, change.ErrNoPeer)
	}
}

func TestManifestThatBreaksIsAnError(t *testing.T) {
	p := newPair(t, nil)
	p.withTree(map[string][]byte{"file": []byte("x")})
	p.applier.base = false
	broken := make(chan error, 1)
	p.applier.seed = func(ctx context.Context, m *Manifest) error {
		m.stream.Cancel()
		for _, err := range m.Records() {
			if err != nil {
				broken <- err
				return err
			}
		}
		broken <- nil
		return io.ErrUnexpectedEOF
	}
	end := p.session()
	if err := <-broken; err == nil {
		t.Error("a manifest without its end was taken for complete")
	}
	if _, standby := end(); standby == nil {
		t.Error("the session went on after a broken manifest")
	}
}
