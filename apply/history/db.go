package history

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"repld/change"
	"repld/durable"
	"repld/durable/boltproof"
)

var (
	bucketMeta  = []byte("meta")
	bucketSteps = []byte("steps")
	bucketNames = []byte("names")
	bucketNodes = []byte("nodes")
	bucketLists = []byte("lists")
	bucketIndex = []byte("index")
	bucketFiles = []byte("files")
	bucketTrash = []byte("trash")

	buckets = [][]byte{bucketMeta, bucketSteps, bucketNames, bucketNodes, bucketLists, bucketIndex, bucketFiles, bucketTrash}
)

// Format 1 had no record of what the file holds.
const (
	format   = "2"
	unproven = "1"

	keyStamp = "format"
	keyID    = "id"
	keyNext  = "next"
	keyBytes = "bytes"
)

// Classes of keys in the index.
const (
	classNode = 1
	className = 2
)

// ErrDamaged is a history that can't be read: it is worth nothing then.
var ErrDamaged = errors.New("the history is damaged")

// ID tells one history from another that was begun in its place.
type ID [16]byte

// Step is one publishing.
type Step struct {
	Number uint64
	Before change.Certificate // the barrier before it
	At     time.Duration      // when that was published, by the history's own clock
	Hidden bool               // the barrier before it isn't offered
}

// DB is an open history.
type DB struct {
	open sync.RWMutex // held while db is in use
	db   *bbolt.DB    // nil after Renew has failed

	fresh bool

	mu    sync.Mutex
	id    ID
	steps []Step // that happened, in order
	bytes uint64
}

// Fresh reports whether the history was begun when it was opened.
func (d *DB) Fresh() bool { return d.fresh }

// Open opens the history at path, or begins one. A damaged one is set aside
// ([durable.SetAside]), one of another format is removed, and another is begun.
func Open(path string) (*DB, error) {
	d, err := open(path)
	switch {
	case errors.Is(err, ErrDamaged):
		if _, aside := durable.SetAside(path); aside != nil {
			return nil, errors.Join(err, aside)
		}
	case errors.Is(err, errFormat):
		if gone := os.Remove(path); gone != nil {
			return nil, errors.Join(err, gone)
		}
	default:
		return d, err
	}
	return open(path)
}

// errFormat is a history of a format that this program doesn't know.
var errFormat = errors.New("the history has an unknown format")

func open(path string) (*DB, error) {
	var d *DB
	err := guard(func() error {
		db, _, proof, err := boltproof.Open(path, 0o600, bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
		switch {
		case errors.Is(err, boltproof.ErrDamaged):
			return fmt.Errorf("%w: %s", ErrDamaged, err.Error())
		case errors.Is(err, boltproof.ErrVersion):
			return fmt.Errorf("%w: %s", errFormat, err.Error())
		case err != nil:
			return err
		}
		d = &DB{db: db}
		err = db.Update(func(tx *bbolt.Tx) error { return d.prepare(tx, proof) })
		if err != nil {
			db.Close()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return d, nil
}

func (d *DB) prepare(plain *bbolt.Tx, proof *boltproof.Proof) error {
	if !proof.Recorded {
		if err := proof.Put(plain); err != nil {
			return err
		}
	}
	missing := 0 // empty ones aren't in the record
	for _, name := range buckets {
		if plain.Bucket(name) == nil {
			missing++
		}
		if _, err := plain.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	tx, err := boltproof.Count(plain)
	if err != nil {
		return err
	}
	meta := tx.Bucket(bucketMeta)
	put := func(key string, value []byte) error { return meta.Put([]byte(key), value) }
	switch v := string(meta.Get([]byte(keyStamp))); {
	case proof.Empty():
		d.fresh = true
		var id ID
		rand.Read(id[:])
		err = errors.Join(put(keyStamp, []byte(format)), put(keyID, id[:]))
	case v == format && proof.Recorded && missing == 0:
	case v == unproven && !proof.Recorded:
		err = put(keyStamp, []byte(format))
	case v == format || v == unproven:
		err = fmt.Errorf("%w: it has format %s, lacks %d buckets, and has a record of what it holds: %v", ErrDamaged, v, missing, proof.Recorded)
	default:
		err = fmt.Errorf("%w: %q, this program knows %s", errFormat, v, format)
	}
	if err != nil {
		return err
	}
	if copy(d.id[:], meta.Get([]byte(keyID))) != len(d.id) {
		return fmt.Errorf("%w: it has no id", ErrDamaged)
	}
	d.bytes = getNumber(meta, keyBytes)
	return tx.Save()
}

// Renew throws everything away and begins anew, with another id.
func (d *DB) Renew() error {
	d.open.Lock()
	defer d.open.Unlock()
	path := d.db.Path()
	err := errors.Join(d.db.Close(), os.Remove(path))
	if err != nil {
		return err
	}
	fresh, err := open(path)
	if err != nil {
		d.db = nil
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.db, d.id, d.steps, d.bytes = fresh.db, fresh.id, nil, 0
	return nil
}

// Close closes the file.
func (d *DB) Close() error {
	d.open.Lock()
	defer d.open.Unlock()
	if d.db == nil {
		return nil
	}
	return d.db.Close()
}

// ID is this history's own.
func (d *DB) ID() ID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.id
}

// Bytes is about what the history takes on disk.
func (d *DB) Bytes() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bytes
}

// Steps returns the steps that happened, the oldest first. Not to be changed.
func (d *DB) Steps() []Step {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps
}

// Retained returns the step before which the trees were at a barrier.
func (d *DB) Retained(id change.BarrierID) (Step, bool) {
	steps := d.Steps()
	for i := len(steps) - 1; i >= 0; i-- {
		if !steps[i].Hidden && steps[i].Before.ID == id {
			return steps[i], true
		}
	}
	return Step{}, false
}

// Settle makes the steps up to last those that happened, and drops all others.
func (d *DB) Settle(last uint64) error {
	var steps []Step
	var plans []uint64
	err := d.view(func(tx *boltproof.Tx) error {
		return tx.Bucket(bucketSteps).ForEach(func(k, v []byte) error {
			s, err := decodeStep(k, v)
			if s.Number > last {
				plans = append(plans, s.Number)
			} else {
				steps = append(steps, s)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	d.setSteps(steps)
	for _, number := range plans {
		if err := d.drop(number); err != nil {
			return err
		}
	}
	if len(steps) == 0 {
		return d.dropLeft(last + 1)
	}
	return d.dropLeft(steps[0].Number)
}

// Happened makes the step that was written last part of the history.
func (d *DB) Happened(number uint64) error {
	d.mu.Lock()
	n := len(d.steps)
	known := n > 0 && d.steps[n-1].Number >= number
	d.mu.Unlock()
	if known {
		return nil
	}
	return d.view(func(tx *boltproof.Tx) error {
		key := number8(number)
		v := tx.Bucket(bucketSteps).Get(key)
		if v == nil {
			return fmt.Errorf("%w: step %d is missing", ErrDamaged, number)
		}
		s, err := decodeStep(key, v)
		if err != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.steps = append(d.steps[:len(d.steps):len(d.steps)], s)
		return nil
	})
}

// Hide takes the barrier before a step out of what is offered.
func (d *DB) Hide(number uint64) error {
	return d.update(func(tx *boltproof.Tx) error {
		steps := slices.Clone(d.Steps())
		i := slices.IndexFunc(steps, func(s Step) bool { return s.Number == number })
		if i < 0 {
			return nil
		}
		steps[i].Hidden = true
		v, err := steps[i].encode()
		if err != nil {
			return err
		}
		tx.OnCommit(func() { d.setSteps(steps) })
		return tx.Bucket(bucketSteps).Put(number8(number), v)
	})
}

func (d *DB) setSteps(steps []Step) {
	d.mu.Lock()
	d.steps = steps
	d.mu.Unlock()
}

func (s *Step) encode() ([]byte, error) {
	b := binary.BigEndian.AppendUint64(nil, uint64(s.At))
	hidden := byte(0)
	if s.Hidden {
		hidden = 1
	}
	cert, err := json.Marshal(&s.Before)
	return append(append(b, hidden), cert...), err
}

func decodeStep(k, v []byte) (Step, error) {
	if len(k) != 8 || len(v) < 9 {
		return Step{}, fmt.Errorf("%w: step %x", ErrDamaged, k)
	}
	s := Step{Number: binary.BigEndian.Uint64(k), At: time.Duration(binary.BigEndian.Uint64(v)), Hidden: v[8] != 0}
	if err := json.Unmarshal(v[9:], &s.Before); err != nil {
		return s, fmt.Errorf("%w: step %d: %w", ErrDamaged, s.Number, err)
	}
	return s, nil
}

func (d *DB) view(fn func(*boltproof.Tx) error) error {
	return d.use(func() error { return boltproof.View(d.db, fn) })
}

func (d *DB) update(fn func(*boltproof.Tx) error) error {
	return d.use(func() error { return boltproof.Update(d.db, fn) })
}

func (d *DB) use(fn func() error) error {
	d.open.RLock()
	defer d.open.RUnlock()
	if d.db == nil {
		return fmt.Errorf("%w: it is not open", ErrDamaged)
	}
	return guard(fn)
}

// guard turns a panic of bbolt over a damaged file into ErrDamaged.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	return fn()
}

// count changes the bytes in use by n.
func (d *DB) count(tx *boltproof.Tx, n int64) error {
	meta := tx.Bucket(bucketMeta)
	now := uint64(max(int64(getNumber(meta, keyBytes))+n, 0))
	tx.OnCommit(func() {
		d.mu.Lock()
		d.bytes = now
		d.mu.Unlock()
	})
	return meta.Put([]byte(keyBytes), number8(now))
}

func getNumber(b *boltproof.Bucket, key string) uint64 {
	if v := b.Get([]byte(key)); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func number8(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func nodeKey(id change.NodeID, step uint64) []byte {
	return binary.BigEndian.AppendUint64(number8(uint64(id)), step)
}

func namePrefix(parent change.NodeID, name string) []byte {
	b := append(make([]byte, 0, 17+len(name)), number8(uint64(parent))...)
	return append(append(b, name...), 0)
}

func nameKey(parent change.NodeID, name string, step uint64) []byte {
	return binary.BigEndian.AppendUint64(namePrefix(parent, name), step)
}

// splitName is the inverse of nameKey.
func splitName(key []byte) (parent change.NodeID, name string, step uint64, ok bool) {
	if len(key) < 8+1+8 || key[len(key)-9] != 0 {
		return 0, "", 0, false
	}
	return change.NodeID(binary.BigEndian.Uint64(key)), string(key[8 : len(key)-9]), binary.BigEndian.Uint64(key[len(key)-8:]), true
}
