package boltproof

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// A Proof is what [Open] found.
type Proof struct {
	// Recorded says that the file has a record, and holds what that says.
	Recorded bool

	found sums
}

// Empty says that there is nothing in the file yet.
func (p *Proof) Empty() bool {
	return !p.Recorded && len(p.found) <= 1 && p.found.lookup("") == (Sum{})
}

// Put begins the record of a file that has none, in its first transaction that
// writes. It must be called before anything is changed there.
func (p *Proof) Put(tx *bbolt.Tx) error { return p.found.store(tx) }

// Open opens a file as bbolt does, with o, but for OpenFile, which is its own. The
// error is [ErrDamaged] if the file isn't what was written, [ErrVersion] if its record is
// unknown; errors of bbolt that mean the same are turned into those. The file is that of
// the database, for [Verify].
func Open(path string, mode os.FileMode, o bbolt.Options) (db *bbolt.DB, file *os.File, proof *Proof, err error) {
	proof = &Proof{}
	o.OpenFile = func(name string, flag int, perm os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, perm)
		if err != nil {
			return nil, err
		}
		if err = lock(f, o.Timeout); err == nil {
			*proof, err = prove(f)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		file = f
		return f, nil
	}
	defer func() {
		if db == nil && file != nil { // an error, or a panic of bbolt: its mapping would keep the lock
			_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
			file.Close()
			file = nil
		}
	}()
	db, err = bbolt.Open(path, mode, &o)
	switch {
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch),
		err != nil && strings.Contains(err.Error(), "file size too small"):
		err = damagedf("%v", err)
	}
	return db, file, proof, err
}

// lockPause is how long to wait before a lock is tried again; bbolt waits as long.
const lockPause = 50 * time.Millisecond

// lock takes the lock that bbolt is going to take again, of the same open file.
func lock(f *os.File, timeout time.Duration) error {
	for began := time.Now(); ; <-time.After(lockPause) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if timeout != 0 && time.Since(began) > timeout-lockPause {
			return berrors.ErrTimeout
		}
	}
}

// prove reads a file that nobody changes.
func prove(f *os.File) (Proof, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return Proof{}, err
	}
	// The pages come in the order of the keys; let the disk read them in its own.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_WILLNEED)
	m, err := readMetas(f, 0)
	if err != nil {
		return Proof{}, err
	}
	return compare(f, info.Size(), m)
}

func compare(f *os.File, size int64, m *meta) (Proof, error) {
	w, err := walk(f, size, m)
	if err != nil {
		return Proof{}, err
	}
	p := Proof{found: w.found}
	if w.proof == nil {
		for _, b := range w.found {
			if b.path == string(proofBucket) {
				return p, damagedf("it has lost the record of what it holds")
			}
		}
		return p, nil
	}
	said, err := decodeSums(w.proof)
	if err == nil {
		err = differ(said, w.found)
	}
	p.Recorded = err == nil
	return p, err
}

// verifyTries is how often [Verify] begins anew when transactions go by, whose
// header it may see half written.
const verifyTries = 5

// Verify reads an open file again, as [Open] did, while others may write to it. The
// file must be that of the database.
func Verify(db *bbolt.DB, file *os.File) error {
	for n := 1; ; n++ {
		again := false
		err := db.View(func(tx *bbolt.Tx) error {
			info, err := file.Stat()
			if err != nil {
				return err
			}
			m, err := readMetas(file, uint64(tx.ID()))
			if err != nil {
				again = true
				return err
			}
			_, err = compare(file, info.Size(), m)
			return err
		})
		if !again || n == verifyTries {
			return err
		}
	}
}
