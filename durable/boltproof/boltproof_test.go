package boltproof

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"pgregory.net/rapid"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var names = [][]byte{[]byte("a"), []byte("b"), []byte("many")}

// begin makes a file with a record and empty buckets.
func begin(t testing.TB, path string, o bbolt.Options) (*bbolt.DB, *os.File) {
	t.Helper()
	o.Timeout = time.Second
	db, file, proof, err := Open(path, 0o600, o)
	must(t, err)
	if !proof.Empty() {
		t.Fatal("a new file isn't empty")
	}
	must(t, db.Update(func(tx *bbolt.Tx) error {
		for _, name := range names {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return proof.Put(tx)
	}))
	return db, file
}

// reopen opens a file that must be proven, and closes it.
func reopen(path string) error {
	db, _, proof, err := Open(path, 0o600, bbolt.Options{Timeout: time.Second})
	if err != nil {
		return err
	}
	if !proof.Recorded {
		err = errors.New("it has no record")
	}
	return errors.Join(err, db.Close())
}

// TestRandom: whatever is put, deleted, cleared and taken back in whatever order, the
// record agrees with what is read.
func TestRandom(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		path := filepath.Join(t.TempDir(), "db")
		o := bbolt.Options{NoSync: true, NoFreelistSync: rapid.Bool().Draw(rt, "no free list")}
		db, file := begin(t, path, o)
		failed := errors.New("given up")
		for range rapid.IntRange(1, 12).Draw(rt, "transactions") {
			giveUp := rapid.IntRange(0, 4).Draw(rt, "give up") == 0
			err := Update(db, func(tx *Tx) error {
				for range rapid.IntRange(0, 60).Draw(rt, "changes") {
					name := rapid.SampledFrom(names).Draw(rt, "bucket")
					b, key := tx.Bucket(name), rapid.SliceOfN(rapid.Byte(), 1, 3).Draw(rt, "key")
					switch rapid.IntRange(0, 9).Draw(rt, "what") {
					case 0:
						must(t, tx.DeleteBucket(name))
						_, err := tx.CreateBucket(name)
						must(t, err)
					case 1, 2:
						must(t, b.Delete(key))
					case 3:
						if err := b.Put(nil, key); err == nil {
							rt.Fatal("an empty key was put")
						}
					default:
						must(t, b.Put(key, make([]byte, rapid.SampledFrom([]int{0, 1, 20, 700, 9000}).Draw(rt, "size"))))
					}
				}
				if giveUp {
					return failed
				}
				return nil
			})
			if err != nil && !errors.Is(err, failed) {
				rt.Fatal(err)
			}
			if err := Verify(db, file); err != nil {
				rt.Fatal(err)
			}
		}
		must(t, db.Close())
		if err := reopen(path); err != nil {
			rt.Fatal(err)
		}
	})
}

// filled makes a file with several levels of pages, free ones, and buckets within
// a bucket, one of them within its page. It returns the content, and how much of it
// is in use.
func filled(t testing.TB, path string) (content []byte, used int) {
	t.Helper()
	db, _ := begin(t, path, bbolt.Options{NoSync: true})
	for round := range 4 {
		must(t, Update(db, func(tx *Tx) error {
			for i := range 3000 {
				key := fmt.Appendf(nil, "key %d of round %d", i*7919%3000, round%3)
				if err := tx.Bucket(names[2]).Put(key, bytes.Repeat(key, 1+i%3)); err != nil {
					return err
				}
			}
			return tx.Bucket(names[round%2]).Put([]byte("state"), fmt.Append(nil, round))
		}))
	}
	must(t, db.Update(func(tx *bbolt.Tx) error {
		l, err := Begin(tx)
		must(t, err)
		for _, name := range []string{"inner", "other"} {
			b, err := tx.Bucket(names[0]).CreateBucket([]byte(name))
			must(t, err)
			must(t, b.Put([]byte("k"), []byte(name)))
			l.Sum("a/"+name).Add([]byte("k"), []byte(name))
		}
		must(t, tx.Bucket(names[0]).DeleteBucket([]byte("other")))
		l.Clear("a/other")
		return l.Save()
	}))
	must(t, db.Close())
	must(t, reopen(path))
	content, err := os.ReadFile(path)
	must(t, err)
	return content, len(bytes.TrimRight(content, "\x00"))
}

// whole reads all that bbolt finds in a file by its keys.
func whole(t *testing.T, db *bbolt.DB) map[string]string {
	t.Helper()
	all := make(map[string]string)
	var read func(prefix string, b *bbolt.Bucket) error
	read = func(prefix string, b *bbolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if v == nil {
				return read(prefix+string(k)+"/", b.Bucket(k))
			}
			if !bytes.Equal(b.Get(k), v) {
				t.Errorf("%s%s isn't found by its key", prefix, k)
			}
			all[prefix+string(k)] = string(v)
			return nil
		})
	}
	must(t, db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return read(string(name)+"/", b) })
	}))
	return all
}

// TestBitFlips: a file with flipped bits is refused, or holds what it held. More
// rounds with REPLD_FAULTS.
func TestBitFlips(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	content, used := filled(t, path)
	db, _, _, err := Open(path, 0o600, bbolt.Options{Timeout: time.Second})
	must(t, err)
	want := whole(t, db)
	must(t, db.Close())
	seed := rand.Uint64()
	t.Logf("seed %d, %d entries in %d bytes", seed, len(want), used)
	rng := rand.New(rand.NewPCG(seed, 1))
	refused := 0
	rounds := 60
	if os.Getenv("REPLD_FAULTS") != "" {
		rounds = 2000
	}
	for round := range rounds {
		bad := slices.Clone(content)
		var at []int
		for range 1 << rng.IntN(7) {
			n := rng.IntN(used)
			if round%3 == 0 { // the heads of pages, and what leads to entries
				n = n/4096*4096 + rng.IntN(64)
			}
			bad[n] ^= 1 << rng.IntN(8)
			at = append(at, n)
		}
		must(t, os.WriteFile(path, bad, 0o600))
		db, _, proof, err := Open(path, 0o600, bbolt.Options{Timeout: time.Second, NoSync: true})
		if errors.Is(err, ErrDamaged) {
			refused++
			continue
		}
		must(t, err)
		if !proof.Recorded {
			t.Fatalf("bytes %v: the record has gone", at)
		}
		if got := whole(t, db); !maps.Equal(got, want) {
			t.Errorf("bytes %v: found %d entries, wanted the same %d", at, len(got), len(want))
		}
		// Nor does it hand out pages that are in use.
		must(t, Update(db, func(tx *Tx) error {
			for i := range 200 {
				if err := tx.Bucket(names[1]).Put(fmt.Append(nil, i), make([]byte, 500)); err != nil {
					return err
				}
			}
			return nil
		}))
		must(t, db.Close())
		must(t, reopen(path))
	}
	t.Logf("%d of %d refused", refused, rounds)
	if refused < rounds/4 {
		t.Errorf("%d of %d damaged files were refused", refused, rounds)
	}
}

// TestHeader: each header alone is as good as both to bbolt, which goes back by a
// transaction if the later one is gone.
func TestHeader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	content, _ := filled(t, path)
	for _, at := range []int{16, 4096 + 16 + 40} {
		bad := slices.Clone(content)
		bad[at] ^= 4
		must(t, os.WriteFile(path, bad, 0o600))
		if err := reopen(path); !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d: error %v, wanted ErrDamaged", at, err)
		}
	}
	must(t, os.WriteFile(path, content[:len(content)/2], 0o600))
	if err := reopen(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("half of it: error %v, wanted ErrDamaged", err)
	}
}

// TestUncounted: a change that wasn't counted is found, and so is a lost record.
func TestUncounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, file := begin(t, path, bbolt.Options{})
	must(t, db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(names[0]).Put([]byte("k"), []byte("v")) }))
	if err := Verify(db, file); !errors.Is(err, ErrDamaged) {
		t.Errorf("open: error %v, wanted ErrDamaged", err)
	}
	must(t, db.Close())
	if err := reopen(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("opened again: error %v, wanted ErrDamaged", err)
	}
	raw, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	must(t, err)
	must(t, raw.Update(func(tx *bbolt.Tx) error { return tx.Bucket(proofBucket).Delete(keySums) }))
	must(t, raw.Close())
	if err := reopen(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("without the record: error %v, wanted ErrDamaged", err)
	}
}

// TestVersion: a record of a later version is no damage.
func TestVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, _ := begin(t, path, bbolt.Options{})
	must(t, db.Update(func(tx *bbolt.Tx) error {
		b := sums{}.encode()
		b[0] = recordVersion + 1
		return tx.Bucket(proofBucket).Put(keySums, seal(b[:1]))
	}))
	must(t, db.Close())
	if err := reopen(path); !errors.Is(err, ErrVersion) {
		t.Errorf("error %v, wanted ErrVersion", err)
	}
}

// TestLocked: what somebody else has open isn't read.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, _ := begin(t, path, bbolt.Options{})
	defer db.Close()
	if _, _, _, err := Open(path, 0o600, bbolt.Options{Timeout: 60 * time.Millisecond}); !errors.Is(err, bbolterrors.ErrTimeout) {
		t.Errorf("error %v, wanted ErrTimeout", err)
	}
}

// TestVerifyMeanwhile reads a file again and again while transactions go by.
func TestVerifyMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, file := begin(t, path, bbolt.Options{NoSync: true})
	defer db.Close()
	stop, written := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				written <- nil
				return
			default:
			}
			if err := Update(db, func(tx *Tx) error { return tx.Bucket(names[0]).Put(fmt.Append(nil, i%1000), make([]byte, i%900)) }); err != nil {
				written <- err
				return
			}
		}
	}()
	for range 200 {
		if err := Verify(db, file); err != nil && !errors.Is(err, errPassed) {
			t.Error(err)
		}
	}
	close(stop)
	must(t, <-written)
	must(t, Verify(db, file))
}

func FuzzSums(f *testing.F) {
	s := sums{}
	s.of("base/names").Add([]byte("k"), []byte("v"))
	f.Add(s.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeSums(seal(b)); err == nil {
			if again, err := decodeSums(s.encode()); err != nil || differ(s, again) != nil {
				t.Errorf("%x became %x, %v", b, s.encode(), err)
			}
		}
	})
}

// BenchmarkOpen reads a file of 100,000 entries of 200 bytes.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "db")
	db, file := begin(b, path, bbolt.Options{NoSync: true})
	for at := 0; at < 100_000; at += 10_000 {
		must(b, Update(db, func(tx *Tx) error {
			for i := range 10_000 {
				if err := tx.Bucket(names[2]).Put(fmt.Appendf(nil, "%08d", at+i), make([]byte, 192)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	info, err := file.Stat()
	must(b, err)
	b.SetBytes(info.Size())
	for b.Loop() {
		must(b, Verify(db, file))
	}
	must(b, db.Close())
}
