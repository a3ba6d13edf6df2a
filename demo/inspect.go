package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"repld/change"
	"repld/control"
	"repld/control/view"
	"repld/journal/catalog"
	"repld/tree"
)

// check is one thing that must hold.
type check struct {
	name string
	took time.Duration
	text string // what was found, if it holds
	err  error  // why it doesn't
}

// The names of the checks.
const (
	checkApplied   = "applied barrier"
	checkCut       = "consistent cut"
	checkDigest    = "tree digest"
	checkIntegrity = "integrity check"
	checkRows      = "rows and files"
	checkSample    = "sample"
)

// findings are what the checks have found.
type findings struct {
	checks   []check
	complete map[string]uint64 // operations that the standby has, by writer
}

// inspect checks what the standby holds, in whose tree nobody writes. The checks are
// made independently of each other, so that one that fails names what is wrong. catalog
// is the file of its catalog that no process has open, said is the barrier that the
// standby named last.
func inspect(ctx context.Context, p place, catalog string, said *control.Barrier) (findings, error) {
	i := &inspection{ctx: ctx, place: p, catalog: catalog, application: filepath.Join(p.tree(standbyName), applicationDir)}
	i.f.complete = make(map[string]uint64)
	i.check(checkApplied, func() (string, error) { return i.applied(said) })
	i.check(checkCut, i.cut)
	i.check(checkDigest, i.digest)
	i.check(checkIntegrity, i.integrity)
	i.check(checkRows, i.rows)
	i.check(checkSample, func() (string, error) {
		n, err := compareSample(ctx, filepath.Join(p.tree(primaryName), sampleDir), filepath.Join(p.tree(standbyName), sampleDir))
		return fmt.Sprintf("%s compared with the primary's, byte by byte", view.Count(uint64(n), "object")), err
	})
	return i.f, ctx.Err()
}

// catalogOf is where the standby has its catalog.
func catalogOf(p place) string {
	return filepath.Join(p.state(standbyName), "groups", treeName, "catalog.db")
}

// copyCatalog copies the catalog of a daemon that runs. Its file is a bbolt database,
// which never overwrites a page that its newest meta page leads to; so what was copied
// while both meta pages stayed the same is its state of then.
func copyCatalog(ctx context.Context, from, to string) error {
	metas := int64(2 * os.Getpagesize()) // the two that take turns
	for {
		before, err := head(from, metas)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		after, err := head(from, metas)
		if err != nil {
			return err
		}
		if bytes.Equal(before, after) && bytes.HasPrefix(data, before) {
			return os.WriteFile(to, data, 0o600)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// head returns the first n bytes of a file.
func head(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, n)
	_, err = io.ReadFull(f, data)
	return data, err
}

type inspection struct {
	ctx         context.Context
	place       place
	catalog     string
	application string
	barrier     *change.Certificate // nil if none was found
	f           findings
}

func (i *inspection) check(name string, fn func() (string, error)) {
	began := time.Now()
	text, err := fn()
	i.f.checks = append(i.f.checks, check{name: name, took: time.Since(began), text: text, err: err})
}

func (i *inspection) openCatalog() (*catalog.Catalog, error) {
	if _, err := os.Stat(i.catalog); err != nil {
		return nil, err
	}
	return catalog.Open(i.catalog, catalog.Options{})
}

// applied finds the newest applied barrier.
func (i *inspection) applied(said *control.Barrier) (string, error) {
	known, err := i.openCatalog()
	if err != nil {
		return "", err
	}
	defer known.Close()
	err = known.View(func(tx *catalog.Tx) error {
		for b := range tx.Barriers() {
			if b.State == catalog.BarrierApplied {
				i.barrier = &b.Certificate
				return nil
			}
		}
		return errors.New("the standby's catalog holds no applied barrier")
	})
	if err == nil && (i.barrier.ID != said.ID || i.barrier.Tree != said.Digest) {
		err = fmt.Errorf("the catalog is at %s, %s; the standby said %s, %s", i.barrier.ID, i.barrier.Tree, said.ID, said.Digest)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, cut at %s", i.barrier.ID, i.barrier.CutAt.UTC().Format("15:04:05.000 UTC")), nil
}

var errNoBarrier = errors.New("there is no barrier to compare with")

// cut looks at how the barrier came about.
func (i *inspection) cut() (string, error) {
	b := i.barrier
	switch {
	case b == nil:
		return "", errNoBarrier
	case b.Rung == change.RungPolled:
		return "", fmt.Errorf("barrier %s was found by polling", b.ID)
	case len(b.Uncovered) > 0:
		return "", fmt.Errorf("barrier %s: files that could have changed unseen: %s", b.ID, strings.Join(b.Uncovered, ", "))
	}
	return fmt.Sprintf("%s, no file could have changed unseen", b.Rung), nil
}

// digest recomputes the tree's digest from the disk.
func (i *inspection) digest() (string, error) {
	if i.barrier == nil {
		return "", errNoBarrier
	}
	root, err := tree.Open(i.place.tree(standbyName), tree.Options{})
	if err != nil {
		return "", err
	}
	defer root.Close()
	known, err := i.openCatalog()
	if err != nil {
		return "", err
	}
	defer known.Close()
	scratch, err := os.MkdirTemp(i.place.dir, "digest-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(scratch)
	fresh, err := catalog.Open(filepath.Join(scratch, "catalog.db"), catalog.Options{NoSync: true})
	if err != nil {
		return "", err
	}
	defer fresh.Close()
	var found sums
	var differs error
	err = known.View(func(k *catalog.Tx) error {
		return fresh.Update(func(tx *catalog.Tx) (err error) {
			found, differs, err = rescan(i.ctx, root, k, tx)
			return err
		})
	})
	if err != nil {
		return "", err
	}
	return i.compareDigest(found, differs)
}

func (i *inspection) compareDigest(found sums, differs error) (string, error) {
	b := i.barrier
	if found.portable == b.Portable && found.files == b.Files && found.bytes == b.Bytes && (unprivileged || found.tree == b.Tree) {
		text := fmt.Sprintf("%s from %s, %s", view.Digest(found.tree), view.Count(found.files, "file"), view.Bytes(found.bytes))
		if found.tree != b.Tree {
			text += " (without owners, which only root can set)"
		}
		return text, nil
	}
	err := fmt.Errorf("found %s, the barrier has %s", found.tree, b.Tree)
	if found.files != b.Files || found.bytes != b.Bytes {
		err = fmt.Errorf("%w; found %d files and %d bytes, want %d and %d", err, found.files, found.bytes, b.Files, b.Bytes)
	}
	if differs != nil {
		err = fmt.Errorf("%w: %w", err, differs)
	}
	return "", err
}

func (i *inspection) integrity() (string, error) {
	db, err := openCopy(i.application, i.place.opened())
	if err != nil {
		return "", err
	}
	defer db.Close()
	return "ok", integrity(i.ctx, db)
}

// rows compares the database with the files of both writers.
func (i *inspection) rows() (string, error) {
	db, err := openCopy(i.application, i.place.opened())
	if err != nil {
		return "", err
	}
	defer db.Close()
	var total uint64
	inFlight := 0
	for _, w := range writers {
		t, werr := compareRows(i.ctx, db, i.application, w)
		i.f.complete[w] = t.complete
		total += t.complete
		inFlight += t.inFlight
		err = errors.Join(err, werr)
	}
	return fmt.Sprintf("%s with row and file, %d in flight", view.Count(total, "operation"), inFlight), err
}
