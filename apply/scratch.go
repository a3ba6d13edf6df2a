package apply

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"repld/change"
	"repld/durable"
	"repld/durable/boltproof"
	"repld/journal/catalog"
)

// The buckets of the scratch file; see the package doc.
var (
	bucketChunks = []byte("chunks")
	bucketStaged = []byte("staged")
	bucketDetach = []byte("detach")
	bucketAttach = []byte("attach")
	bucketPatch  = []byte("patch")
	bucketTouch  = []byte("touch")
	bucketFound  = []byte("found")
	bucketState  = []byte("state")

	scratchBuckets = [][]byte{bucketChunks, bucketStaged, bucketDetach, bucketAttach, bucketPatch, bucketTouch, bucketFound, bucketState}
	planBuckets    = [][]byte{bucketDetach, bucketAttach, bucketPatch, bucketTouch}
)

// Format 1 had no record of what the file holds.
const (
	scratchFormat   = 2
	scratchUnproven = 1

	keyFormat  = "format"
	keyBoot    = "boot"
	keyIndexed = "indexed"
	keyCommit  = "commit"
)

// scratch is the applier's own file: working state that can be made again, and
// the commit record. Damage is found when it is opened, by package boltproof; what
// comes up later by the checksum of a value, or by a panic of bbolt. A file that was
// found damaged is set aside, and does nothing any more; the next [Open] begins a new
// one.
type scratch struct {
	path string
	db   *bbolt.DB
	file *os.File // that of db

	mu     sync.Mutex
	broken error // the damage that was found
}

// openScratch opens the scratch file in dir. A damaged one is set aside.
func openScratch(dir string) (*scratch, error) {
	s := &scratch{path: filepath.Join(dir, "apply.db")}
	err := s.open()
	if errors.Is(err, ErrScratch) {
		s = &scratch{path: s.path}
		err = s.open()
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *scratch) open() error {
	var proof *boltproof.Proof
	err := s.guard(func() (err error) {
		s.db, s.file, proof, err = boltproof.Open(s.path, 0o600, bbolt.Options{
			Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
			// The freelist is kept in the file: to find it bbolt reads the whole file, in a
			// goroutine whose panics nobody catches.
		})
		switch {
		case errors.Is(err, boltproof.ErrDamaged):
			return fmt.Errorf("%w: %v", ErrScratch, err) //nolint:errorlint // it would be taken for damage of the catalog
		case err != nil:
			return fmt.Errorf("open %s: %w", s.path, err)
		}
		return s.prepare(proof)
	})
	if err == nil {
		err = s.update(func(t *scratchTx) error { return t.checkBoot() })
	}
	if err != nil {
		_ = s.close() // err says what was wrong
	}
	return err
}

// prepare checks the format of an opened file, writes it to a new one, and begins the
// record of what it holds in one of format 1.
func (s *scratch) prepare(proof *boltproof.Proof) error {
	var found []byte
	missing := 0 // empty ones aren't in the record
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		for _, name := range scratchBuckets {
			if tx.Bucket(name) == nil {
				missing++
			}
		}
		b := tx.Bucket(bucketState)
		if b == nil {
			return nil
		}
		if found = b.Get([]byte(keyFormat)); found != nil {
			found, err = unseal([]byte(keyFormat), found)
			found = bytes.Clone(found)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case len(found) == 1 && found[0] == scratchFormat && proof.Recorded && missing == 0:
		return nil
	case len(found) == 1 && found[0] == scratchUnproven && !proof.Recorded, found == nil && proof.Empty():
	case found == nil, len(found) == 1 && (found[0] == scratchFormat || found[0] == scratchUnproven):
		return fmt.Errorf("%w: it has format %x, lacks %d buckets, and has a record of what it holds: %v", ErrScratch, found, missing, proof.Recorded)
	default:
		return fmt.Errorf("%s has format %x, this program knows %d", s.path, found, scratchFormat)
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		if err := proof.Put(tx); err != nil {
			return err
		}
		for _, name := range scratchBuckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		t := &scratchTx{}
		if t.tx, err = boltproof.Count(tx); err != nil {
			return err
		}
		return errors.Join(t.b(bucketState).Put([]byte(keyFormat), []byte{scratchFormat}), t.tx.Save())
	})
	if err != nil {
		return err
	}
	return s.readable() // which is all that format 1 has
}

// close closes the file. After damage bbolt is left alone: what it holds after a
// panic isn't known, its locks included.
func (s *scratch) close() error {
	s.mu.Lock()
	broken := s.broken
	s.mu.Unlock()
	if broken == nil {
		if s.db == nil {
			return nil
		}
		return s.db.Close()
	}
	if s.file != nil {
		_ = syscall.Flock(int(s.file.Fd()), syscall.LOCK_UN) // the mapping would keep it
		s.file.Close()
	}
	return nil
}

// guard calls fn, and sets the file aside if it turns out to be damaged.
func (s *scratch) guard(fn func() error) error {
	s.mu.Lock()
	broken := s.broken
	s.mu.Unlock()
	if broken != nil {
		return broken
	}
	err := catalog.GuardFile(fn)
	switch {
	case errors.Is(err, catalog.ErrDamaged):
		// fn may read the catalog too, in a transaction of a caller: unless this file is
		// seen to be damaged, the catalog is under suspicion as well.
		if s.readable() != nil {
			err = fmt.Errorf("%w: %v", ErrScratch, err) //nolint:errorlint // it would be taken for damage of the catalog
		} else {
			err = fmt.Errorf("%w: %w", ErrScratch, err)
		}
	case errors.Is(err, berrors.ErrBucketNotFound), errors.Is(err, berrors.ErrBucketExists), errors.Is(err, berrors.ErrIncompatibleValue):
		err = fmt.Errorf("%w: %w", ErrScratch, err)
	}
	return s.condemn(err)
}

// condemn sets the file aside for err, if that is [ErrScratch] and the file is still
// there, and returns what to tell of it.
func (s *scratch) condemn(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil || !errors.Is(err, ErrScratch) {
		return err
	}
	kept, aside := durable.SetAside(s.path)
	if aside != nil {
		s.broken = fmt.Errorf("%s: %w (%w)", s.path, err, aside)
	} else {
		s.broken = fmt.Errorf("%s: %w; the file is kept as %s", s.path, err, kept)
	}
	return s.broken
}

// readable reads the whole file and holds everything in it against its checksum.
func (s *scratch) readable() error {
	if s.db == nil {
		return ErrScratch
	}
	return catalog.GuardFile(func() error {
		return boltproof.View(s.db, func(tx *boltproof.Tx) error {
			t := &scratchTx{tx: tx}
			for _, name := range scratchBuckets {
				if err := eachFrom(t.b(name), nil, func(_, _ []byte) (bool, error) { return true, nil }); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// scratchTx is a transaction of the scratch file.
type scratchTx struct {
	tx  *boltproof.Tx
	err error // damage that was found
}

// sealSize is that of the checksum behind each value.
const sealSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal appends the checksum of key and value to value.
func seal(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return binary.LittleEndian.AppendUint32(append(make([]byte, 0, len(value)+sealSize), value...), sum)
}

// unseal returns the value in front of its checksum.
func unseal(key, sealed []byte) ([]byte, error) {
	if n := len(sealed) - sealSize; n >= 0 {
		value := sealed[:n:n]
		sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
		if binary.LittleEndian.Uint32(sealed[n:]) == sum {
			return value, nil
		}
	}
	return nil, fmt.Errorf("%w: the value of key %x has another checksum", ErrScratch, key)
}

// bucket is one of the scratch file's; its values are sealed.
type bucket struct {
	t *scratchTx
	b *boltproof.Bucket
}

// Put sets the value of a key.
func (b bucket) Put(key, value []byte) error { return b.b.Put(key, seal(key, value)) }

// Get returns the value of a key; nil if there is none, or if it is damaged, which
// the transaction ends with.
func (b bucket) Get(key []byte) []byte {
	v := b.b.Get(key)
	if v == nil {
		return nil
	}
	v, err := unseal(key, v)
	if err != nil {
		b.t.err = err
	}
	return v
}

// Delete removes a key.
func (b bucket) Delete(key []byte) error { return b.b.Delete(key) }

func (b bucket) empty() bool {
	k, _ := b.b.Cursor().First()
	return k == nil
}

func (s *scratch) update(fn func(*scratchTx) error) error {
	return s.guard(func() error {
		return boltproof.Update(s.db, func(tx *boltproof.Tx) error {
			t := &scratchTx{tx: tx}
			err := fn(t)
			if t.err != nil {
				return t.err
			}
			return err
		})
	})
}

func (s *scratch) view(fn func(*scratchTx) error) error {
	return s.guard(func() error {
		return boltproof.View(s.db, func(tx *boltproof.Tx) error {
			t := &scratchTx{tx: tx}
			err := fn(t)
			if t.err != nil {
				return t.err
			}
			return err
		})
	})
}

func (t *scratchTx) b(name []byte) bucket { return bucket{t, t.tx.Bucket(name)} }

// clear empties buckets.
func (t *scratchTx) clear(names ...[]byte) error {
	for _, name := range names {
		if t.b(name).empty() {
			continue
		}
		if err := t.tx.DeleteBucket(name); err != nil {
			return err
		}
		if _, err := t.tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return nil
}

// clearPlan empties the buckets of a plan, if there is anything in them.
func (s *scratch) clearPlan() error {
	left := false
	err := s.view(func(t *scratchTx) error {
		for _, name := range planBuckets {
			if !t.b(name).empty() {
				left = true
			}
		}
		return nil
	})
	if err != nil || !left {
		return err
	}
	return s.update(func(t *scratchTx) error { return t.clear(planBuckets...) })
}

// checkBoot marks what was staged before a reboot as not to be trusted: a power
// loss can keep a file and lose its data.
func (t *scratchTx) checkBoot() error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil // not Linux, or no /proc: nothing to compare
	}
	state := t.b(bucketState)
	if string(state.Get([]byte(keyBoot))) == string(boot) {
		return nil
	}
	if state.Get([]byte(keyCommit)) == nil { // what is committed had been synced
		if err := t.clear(bucketStaged); err != nil {
			return err
		}
	}
	return state.Put([]byte(keyBoot), boot)
}

func (t *scratchTx) indexed() uint64 {
	if v := t.b(bucketState).Get([]byte(keyIndexed)); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (t *scratchTx) setIndexed(offset uint64) error {
	return t.b(bucketState).Put([]byte(keyIndexed), binary.BigEndian.AppendUint64(nil, offset))
}

// chunkAt returns where in the log the data of a chunk stands.
func (t *scratchTx) chunkAt(d change.Digest) (offset uint64, ok bool) {
	v := t.b(bucketChunks).Get(d[:])
	if len(v) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(v), true
}

func nodeKey(id change.NodeID) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }
