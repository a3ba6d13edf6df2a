package history

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"repld/change"
	"repld/durable"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kept makes a history of some steps.
func kept(t *testing.T, path string) (ID, []Step) {
	t.Helper()
	d, err := Open(path)
	must(t, err)
	for n := range uint64(5) {
		w, err := d.Begin(Step{Before: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: n}}})
		must(t, err)
		for id := range change.NodeID(200) {
			must(t, w.Name(id, "a", id+1))
			must(t, w.Absent(id))
		}
		must(t, w.Close())
		must(t, d.Happened(w.Number()))
	}
	defer func() { must(t, d.Close()) }()
	return d.ID(), d.Steps()
}

// TestBitsFlipped: a history with flipped bits is set aside and begins anew, or is
// what it was.
func TestBitsFlipped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	id, steps := kept(t, path)
	content, err := os.ReadFile(path)
	must(t, err)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	begun := 0
	const rounds = 40
	for range rounds {
		bad := slices.Clone(content)
		for range 1 << rng.IntN(6) {
			at := rng.IntN(len(bad))
			for bad[at] == 0 { // elsewhere is nothing
				at = rng.IntN(len(bad))
			}
			bad[at] ^= 1 << rng.IntN(8)
		}
		must(t, os.WriteFile(path, bad, 0o600))
		d, err := Open(path)
		must(t, err)
		_, aside := os.Lstat(path + durable.Damaged)
		if d.Fresh() != (aside == nil) {
			t.Errorf("fresh: %v, set aside: %v", d.Fresh(), aside)
		}
		if d.Fresh() {
			begun++
			must(t, os.Remove(path+durable.Damaged))
		} else {
			must(t, d.Settle(steps[len(steps)-1].Number))
			if d.ID() != id || len(d.Steps()) != len(steps) {
				t.Errorf("found history %x with %d steps, wanted %x with %d", d.ID(), len(d.Steps()), id, len(steps))
			}
		}
		must(t, d.Close())
	}
	if t.Logf("%d of %d began anew", begun, rounds); begun == 0 {
		t.Error("no damage was found")
	}
}

// TestUnproven: a history of format 1 becomes one of the present.
func TestUnproven(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	id, steps := kept(t, path)
	raw, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	must(t, err)
	must(t, raw.Update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.DeleteBucket([]byte("proof")), tx.Bucket(bucketMeta).Put([]byte(keyStamp), []byte(unproven)))
	}))
	must(t, raw.Close())
	for range 2 {
		d, err := Open(path)
		must(t, err)
		must(t, d.Settle(steps[len(steps)-1].Number))
		if d.Fresh() || d.ID() != id || len(d.Steps()) != len(steps) {
			t.Errorf("found history %x with %d steps, wanted %x with %d", d.ID(), len(d.Steps()), id, len(steps))
		}
		must(t, d.Close())
	}
	if _, err := os.Lstat(path + durable.Damaged); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was set aside: %v", err)
	}
}
