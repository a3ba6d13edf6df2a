package boltproof

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/bbolt"
)

// ErrDamaged is a file that isn't what was written.
var ErrDamaged = errors.New("the file is damaged")

// ErrVersion is a record of a version that this program doesn't know.
var ErrVersion = errors.New("the file is of a later version")

func damagedf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// A Sum is what is known of the entries of a bucket: two buckets with the same
// entries have the same, in whatever order they came.
type Sum struct {
	Entries uint64
	Hash    uint64 // the sum of the entries' hashes
}

// Add counts an entry that is put.
func (s *Sum) Add(key, value []byte) {
	s.Entries++
	s.Hash += hash(key, value)
}

// Remove counts an entry that is taken away, or replaced.
func (s *Sum) Remove(key, value []byte) {
	s.Entries--
	s.Hash -= hash(key, value)
}

// hash mixes the hashes of key and value; the last steps are those of XXH64 itself.
func hash(key, value []byte) uint64 {
	const prime2, prime3 = 14029467366897019727, 1609587929392839161
	h := xxhash.Sum64(key)*prime3 + bits.RotateLeft64(xxhash.Sum64(value), 31)
	h ^= h >> 33
	h *= prime2
	h ^= h >> 29
	h *= prime3
	return h ^ h>>32
}

// bucketSum is the sum of a bucket by its path.
type bucketSum struct {
	path string
	Sum
}

// sums are those of all buckets. There are few.
type sums []*bucketSum

func (s *sums) of(path string) *Sum {
	for _, b := range *s {
		if b.path == path {
			return &b.Sum
		}
	}
	b := &bucketSum{path: path}
	*s = append(*s, b)
	return &b.Sum
}

// lookup is of for those who only read.
func (s sums) lookup(path string) Sum {
	for _, b := range s {
		if b.path == path {
			return b.Sum
		}
	}
	return Sum{}
}

// differ reports in which bucket two records disagree.
func differ(said, found sums) error {
	for _, b := range slices.Concat(said, found) {
		want, got := said.lookup(b.path), found.lookup(b.path)
		if want.Entries != got.Entries {
			return damagedf("%q has %d entries, wanted %d", b.path, got.Entries, want.Entries)
		}
		if want.Hash != got.Hash {
			return damagedf("the %d entries of %q are not those that were written", got.Entries, b.path)
		}
	}
	return nil
}

const recordVersion = 1

var (
	proofBucket = []byte("proof")
	keySums     = []byte("sums")
)

func (s sums) encode() []byte {
	b := []byte{recordVersion}
	for _, one := range s {
		if one.Sum == (Sum{}) {
			continue
		}
		b = append(binary.AppendUvarint(b, uint64(len(one.path))), one.path...)
		b = binary.LittleEndian.AppendUint64(binary.AppendUvarint(b, one.Entries), one.Hash)
	}
	return seal(b)
}

// seal appends the checksum of a record.
func seal(b []byte) []byte { return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b)) }

func decodeSums(b []byte) (sums, error) {
	if len(b) < 9 || binary.LittleEndian.Uint64(b[len(b)-8:]) != xxhash.Sum64(b[:len(b)-8]) {
		return nil, damagedf("the record of what it holds has another checksum")
	}
	if b[0] != recordVersion {
		return nil, fmt.Errorf("%w: found record %d, this program knows %d", ErrVersion, b[0], recordVersion)
	}
	var s sums
	for b = b[1 : len(b)-8]; len(b) > 0; {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return nil, damagedf("the record of what it holds ends early")
		}
		one := &bucketSum{path: string(b[size : size+int(n)])}
		b = b[size+int(n):]
		if one.Entries, size = binary.Uvarint(b); size <= 0 || len(b) < size+8 {
			return nil, damagedf("the record of what it holds ends early")
		}
		one.Hash = binary.LittleEndian.Uint64(b[size:])
		b = b[size+8:]
		s = append(s, one)
	}
	return s, nil
}

// load reads the record in a transaction; found is false if there is none.
func load(tx *bbolt.Tx) (s sums, stored []byte, err error) {
	b := tx.Bucket(proofBucket)
	if b == nil {
		return nil, nil, nil
	}
	stored = b.Get(keySums)
	s, err = decodeSums(stored)
	return s, stored, err
}

// store writes the record in a transaction.
func (s sums) store(tx *bbolt.Tx) error {
	b, err := tx.CreateBucketIfNotExists(proofBucket)
	if err != nil {
		return err
	}
	return b.Put(keySums, s.encode())
}
