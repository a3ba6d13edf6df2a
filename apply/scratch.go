package apply

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"repld/change"
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

const (
	scratchFormat = 1
	keyFormat     = "format"
	keyBoot       = "boot"
	keyIndexed    = "indexed"
	keyCommit     = "commit"
)

// scratch is the applier's own file: working state that can be made again, and
// the commit record.
type scratch struct {
	db *bbolt.DB
}

// openScratch opens the scratch file in dir. A file of another format is begun
// anew, unless a commit record might be in it.
func openScratch(dir string) (*scratch, error) {
	path := filepath.Join(dir, "apply.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) || errors.Is(err, berrors.ErrVersionMismatch) {
		return nil, fmt.Errorf("%w: %s: %w", ErrScratch, path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s := &scratch{db: db}
	err = s.update(func(t *scratchTx) error {
		if v := t.b(bucketState).Get([]byte(keyFormat)); v != nil && (len(v) != 1 || v[0] != scratchFormat) {
			return fmt.Errorf("%s has format %x, this program knows %d", path, v, scratchFormat)
		}
		if err := t.b(bucketState).Put([]byte(keyFormat), []byte{scratchFormat}); err != nil {
			return err
		}
		return t.checkBoot()
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	return s, nil
}

// scratchTx is a transaction of the scratch file.
type scratchTx struct{ tx *bbolt.Tx }

func (s *scratch) update(fn func(*scratchTx) error) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range scratchBuckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return fn(&scratchTx{tx})
	})
}

func (s *scratch) view(fn func(*scratchTx) error) error {
	return s.db.View(func(tx *bbolt.Tx) error { return fn(&scratchTx{tx}) })
}

func (t *scratchTx) b(name []byte) *bbolt.Bucket { return t.tx.Bucket(name) }

// clear empties buckets.
func (t *scratchTx) clear(names ...[]byte) error {
	for _, name := range names {
		if k, _ := t.b(name).Cursor().First(); k == nil {
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
			if k, _ := t.b(name).Cursor().First(); k != nil {
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
