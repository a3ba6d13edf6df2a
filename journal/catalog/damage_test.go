package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"repld/change"
	"repld/durable/boltproof"
)

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog")
	open(t, path)
	_, err := Open(path, Options{Timeout: 20 * time.Millisecond})
	var e *Error
	if !errors.Is(err, ErrLocked) || !errors.As(err, &e) || e.Path != path || e.Hint == "" {
		t.Errorf("error %v, wanted ErrLocked with path and hint", err)
	}
}

func TestUnknownFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog")
	must(t, open(t, path).Close())
	rewrite := func(update func(db *bbolt.DB) error) {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 5 * time.Second})
		must(t, err)
		must(t, update(db))
		must(t, db.Close())
	}
	newer := func(tx *boltproof.Tx) error { return tx.Bucket(bucketMeta).Put(keyFormat, []byte("99")) }
	rewrite(func(db *bbolt.DB) error { return boltproof.Update(db, newer) })
	if _, err := Open(path, Options{}); !errors.Is(err, ErrFormat) {
		t.Errorf("version 99: error %v, wanted ErrFormat", err)
	}
	// The same without counting is damage.
	rewrite(func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyFormat, []byte("98")) })
	})
	if _, err := Open(path, Options{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("an uncounted entry: error %v, wanted ErrDamaged", err)
	}
	must(t, os.Remove(path))
	rewrite(func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("other")); return err })
	})
	if _, err := Open(path, Options{}); !errors.Is(err, ErrFormat) {
		t.Errorf("another database: error %v, wanted ErrFormat", err)
	}
}

func TestNotACatalog(t *testing.T) {
	for name, content := range map[string][]byte{
		"text":   []byte("this is no catalog"),
		"zeroes": make([]byte, 1<<16),
	} {
		path := filepath.Join(t.TempDir(), "catalog")
		must(t, os.WriteFile(path, content, 0o600))
		if _, err := Open(path, Options{}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: error %v, wanted ErrDamaged", name, err)
		}
	}
}

// use goes through everything that a catalog holds.
func use(c *Catalog) error {
	err := c.View(func(tx *Tx) error {
		for id := range tx.Nodes(0) {
			for range tx.Refs(id, 0) {
			}
			for range tx.Names(id) {
			}
			for range tx.Children(id, "") {
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.Update(func(tx *Tx) error {
		for i := range 50 {
			id := tx.NewNode()
			if err := applyAll(tx, []change.Record{
				&change.Put{Node: id, Kind: change.KindFile, Meta: meta(0o600)},
				&change.Link{Parent: 1, Name: fmt.Sprint("more", i), Node: id},
			}); err != nil {
				return err
			}
		}
		return tx.Apply(&change.Barrier{})
	})
}

// A damaged file is refused at once or when the damage is met; nothing crashes
// and the lock is given up.
func TestDamage(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	c := open(t, good)
	longFile(t, c, 20_000)
	must(t, use(c))
	must(t, c.Close())
	content, err := os.ReadFile(good)
	must(t, err)
	used := len(content)
	for used > 0 && content[used-1] == 0 {
		used--
	}
	content = content[:min(len(content), used+4096)]
	found := 0
	for i := range 60 {
		bad := append([]byte(nil), content...)
		page := 4096 * rnd.IntN(used/4096)
		switch i % 3 {
		case 0:
			bad = bad[:page]
		case 1: // the fields of a page's header and its first elements
			for range 8 {
				bad[page+8+rnd.IntN(56)] = byte(rnd.Uint32())
			}
		case 2:
			clear(bad[page : page+4096])
		}
		path := filepath.Join(dir, fmt.Sprint("bad", i))
		must(t, os.WriteFile(path, bad, 0o600))
		c, err := Open(path, Options{NoSync: true})
		if err == nil {
			if err = use(c); err != nil {
				if again := use(c); errors.Is(err, ErrDamaged) && !errors.Is(again, ErrDamaged) {
					t.Errorf("damaged catalog goes on: %v", again)
				}
			}
			c.Close()
		}
		switch {
		case errors.Is(err, ErrDamaged):
			found++
		case err != nil && !errors.Is(err, ErrConflict) && len(bad) > 0:
			t.Logf("case %d: %v", i, err)
		}
		var e *Error
		if errors.Is(err, ErrDamaged) && !errors.As(err, &e) {
			t.Errorf("case %d: error %v isn't an *Error", i, err)
		}
		must(t, os.Remove(path))
	}
	if found < 20 {
		t.Errorf("damage was found in %d of 60 files", found)
	}
}

// A panic of the caller's own isn't taken for damage.
func TestPanicGoesOn(t *testing.T) {
	c := fresh(t)
	defer func() {
		if p := recover(); p != "mine" {
			t.Errorf("recovered %v", p)
		}
		must(t, c.View(func(*Tx) error { return nil }))
	}()
	c.View(func(*Tx) error { panic("mine") })
}

func FuzzRecord(f *testing.F) {
	r := &record{kind: change.KindFile, links: 1, parent: 3, name: "a", size: 20, refs: 2, meta: emptyMeta}
	r.inline = appendRefs(nil, []change.ChunkRef{chunk(3), {Length: 16}})
	f.Add(r.append(nil))
	r.local = Local{Tree: 1, ObjectID: change.ObjectID{Ino: 3}, Racy: true}
	f.Add(r.append(nil))
	f.Fuzz(func(t *testing.T, v []byte) {
		r, err := decodeRecord(v)
		if err != nil {
			return
		}
		r.node()
		decodeRefs(r.inline, r.refs)
		(&Tx{}).newContentHash().add(r.inline, r.refs)
		again, err := decodeRecord(r.append(nil))
		if err != nil {
			t.Fatalf("encoding of a decoded record: %v", err)
		}
		if string(again.append(nil)) != string(r.append(nil)) {
			t.Fatal("record changes when it is encoded again")
		}
	})
}

func FuzzPages(f *testing.F) {
	f.Add(make([]byte, 16), []byte{1, 1, 1, 0})
	f.Fuzz(func(t *testing.T, key, v []byte) {
		if p, err := decodeRefPage(key, v); err == nil {
			p.decode(1)
			(&Tx{}).newContentHash().add(p.raw, p.count)
		}
		decodePageDigest(v)
		decodeHolding(v)
	})
}

func FuzzBarrier(f *testing.F) {
	s := StoredBarrier{State: BarrierApplied}
	s.Uncovered = []string{"tree/a"}
	f.Add(s.append(nil))
	f.Fuzz(func(t *testing.T, v []byte) {
		s, err := decodeBarrier(change.BarrierID{}, v)
		if err == nil && string(s.append(nil)) != string(v) {
			t.Fatal("barrier changes when it is encoded again")
		}
	})
}
