package apply

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"

	"repld/change"
	"repld/health"
	"repld/journal/catalog"
)

// Manifest is the state of the primary's catalog at a position of its log, from
// which a standby begins: the Put and Splice records of every node, and the Link
// records of every name, each node's Put before anything that refers to it.
type Manifest struct {
	Position     change.LogPosition
	Files, Bytes uint64 // in all, for progress
	// Records ends after an error. What it yields is used up at once.
	Records iter.Seq2[change.Record, error]
}

// seedState says that a base was imported and waits for its first barrier:
//
//	version u8 │ files total u64 │ bytes total u64 │ files adopted u64 │ bytes adopted u64
//
// The version is 2 if what lay in the trees was known.
type seedState struct {
	files, bytes               uint64
	adoptedFiles, adoptedBytes uint64
	known                      bool
}

const (
	seedVersion = 1
	seedKnown   = 2
)

func (s *seedState) encode() []byte {
	b := []byte{seedVersion}
	if s.known {
		b[0] = seedKnown
	}
	for _, v := range [...]uint64{s.files, s.bytes, s.adoptedFiles, s.adoptedBytes} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

// loadSeed reads the state of a seed; nil if there is none.
func loadSeed(tx *catalog.Tx) (*seedState, error) {
	b := tx.Get(stateSeed)
	if b == nil {
		return nil, nil
	}
	if len(b) != 33 || b[0] != seedVersion && b[0] != seedKnown {
		return nil, fmt.Errorf("state of the seed: %x", b)
	}
	v := func(i int) uint64 { return binary.BigEndian.Uint64(b[1+8*i:]) }
	return &seedState{files: v(0), bytes: v(1), adoptedFiles: v(2), adoptedBytes: v(3), known: b[0] == seedKnown}, nil
}

// Seed begins anew with a base: it forgets the catalog, imports the manifest,
// adopts what lies in the trees already, and puts the log at the manifest's
// position, where the records that follow are to be appended. What the base
// lacks is then staged by [Applier.Run], and published at the first complete
// barrier after it. Until then the trees stay as they are.
//
// It reads the whole manifest, and all that lies in the trees. After an error
// nothing of it counts; files that were staged before are used again by a later
// seed. An error of type [*ErrSeedHalted] stops it if too much would be set aside;
// after [Applier.Resume] has accepted that, the caller seeds again.
//
// Nobody may append to the log while Seed runs.
func (a *Applier) Seed(ctx context.Context, m Manifest) error {
	if err := a.acquire(ctx); err != nil {
		return err
	}
	defer a.release()
	err := a.seedFrom(ctx, &m)
	var halted *ErrSeedHalted
	switch {
	case errors.As(err, &halted):
		a.raise(health.SeedHalted, "%v", halted)
	case err == nil:
		a.resolve(health.SeedHalted, health.GuardHalted)
		a.mu.Lock()
		a.accepted = false
		a.mu.Unlock()
		a.Notify()
	}
	return err
}

func (a *Applier) seedFrom(ctx context.Context, m *Manifest) error {
	if err := a.finishPending(ctx); err != nil {
		return err
	}
	if err := a.checkRoots(); err != nil {
		return err
	}
	if err := a.forget(ctx); errors.Is(err, catalog.ErrConflict) {
		// Nothing has come from the peer yet: what the catalog holds contradicts itself.
		return fmt.Errorf("forget the former base: %w: %w", catalog.ErrDamaged, err)
	} else if err != nil {
		return fmt.Errorf("forget the former base: %w", err)
	}
	state := &seedState{files: m.Files, bytes: m.Bytes}
	a.progress.begin(0, 0, m.Files, m.Bytes)
	bare, err := a.treesEmpty()
	if err != nil {
		return err
	}
	if bare {
		err = importRecords(ctx, a.catalog.UpdateNext, m.Records)
	} else {
		err = a.seedOver(ctx, m, state)
	}
	if err != nil {
		return errors.Join(err, a.forget(context.WithoutCancel(ctx)))
	}
	if err := a.log.Reset(m.Position); err != nil {
		return err
	}
	err = a.catalog.UpdateNext(func(tx *catalog.Tx) error {
		if err := tx.Put(stateReplayed, point{end: m.Position}.append(nil)); err != nil {
			return err
		}
		return tx.Put(stateSeed, state.encode())
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.rejected = false
	a.mu.Unlock()
	return a.load()
}

// forget drops the overlay and everything in the base, and what the scratch file
// knows of the log. What is staged stays.
func (a *Applier) forget(ctx context.Context) error {
	a.ahead = false
	if err := a.catalog.DropNext(); err != nil {
		return err
	}
	err := a.catalog.Update(func(tx *catalog.Tx) error {
		for _, key := range [...]string{stateApplied, stateReplayed, stateSeed, stateSuspect, stateRewound, stateHistory, stateGuard} {
			if err := tx.Put(key, nil); err != nil {
				return err
			}
		}
		var names []string
		for name := range tx.Children(change.GroupNode, "") {
			names = append(names, name)
		}
		for _, name := range names {
			if err := tx.Apply(&change.Unlink{Parent: change.GroupNode, Name: name}); err != nil {
				return err
			}
		}
		return tx.PruneBarriers(0)
	})
	for more := true; more && err == nil; {
		if err = ctx.Err(); err != nil {
			break
		}
		err = a.catalog.Update(func(tx *catalog.Tx) (err error) {
			more, err = tx.CollectSome(replayRecords)
			return err
		})
	}
	if err != nil {
		return err
	}
	err = a.scratch.update(func(t *scratchTx) error {
		if err := t.clear(bucketDetach, bucketAttach, bucketPatch, bucketTouch, bucketChunks); err != nil {
			return err
		}
		return t.setIndexed(0)
	})
	if err != nil {
		return err
	}
	if err := a.settleHistory(); err != nil {
		return err
	}
	return a.load()
}

func (a *Applier) treesEmpty() (bool, error) {
	for i := range a.trees {
		rd := a.trees[i].Root.NewReader()
		entries, err := rd.ReadDir("")
		rd.Close()
		if err != nil {
			return false, err
		}
		for _, e := range entries {
			if !a.trees[i].skips(e.Name) {
				return false, nil
			}
		}
	}
	return true, nil
}

// importBatch is how many records of a manifest go into one transaction. Their keys
// come in no order, so that each commit writes much of the catalog anew.
const importBatch = 24_000

// importRecords applies records in bounded transactions, and seals.
func importRecords(ctx context.Context, update func(func(*catalog.Tx) error) error, records iter.Seq2[change.Record, error]) error {
	if err := applyRecords(ctx, update, records); err != nil {
		return fmt.Errorf("import the base: %w", err)
	}
	return update(func(tx *catalog.Tx) error {
		if err := tx.Collect(); err != nil {
			return err
		}
		_, _, _, _, err := tx.Seal()
		return err
	})
}

// applyRecords applies records in bounded transactions.
func applyRecords(ctx context.Context, update func(func(*catalog.Tx) error) error, records iter.Seq2[change.Record, error]) error {
	next, stop := iter.Pull2(records)
	defer stop()
	for done := false; !done; {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := update(func(tx *catalog.Tx) error {
			refs := 0
			for n := 0; n < importBatch && refs < replayRefs; n++ {
				rec, err, ok := next()
				if !ok {
					done = true
					break
				}
				if err != nil {
					return err
				}
				if s, ok := rec.(*change.Splice); ok {
					refs += len(s.Refs) + 1
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
	}
	return nil
}

// stageAhead stages what the imported base needs while no barrier has come yet.
// What can't be had now is left to the barrier.
func (a *Applier) stageAhead(ctx context.Context) error {
	a.beginSeedProgress()
	err := a.stage(ctx, nil)
	a.ahead = err == nil
	if errors.Is(err, ErrIncomplete) {
		a.logger.Info("some files changed on the peer while they were fetched; the next barrier brings them", "error", err)
		return nil
	}
	return err
}

func (a *Applier) beginSeedProgress() {
	a.mu.Lock()
	s := a.seed
	a.mu.Unlock()
	if s != nil {
		a.progress.begin(s.adoptedFiles, s.adoptedBytes, s.files, s.bytes)
	}
}

// manifestFile is a catalog that holds a manifest while the trees are compared
// with it.
const manifestFile = "seed.db"

// seedOver imports a manifest where the trees aren't empty: what lies there
// becomes the base of the catalog, the manifest the overlay.
func (a *Applier) seedOver(ctx context.Context, m *Manifest, state *seedState) error {
	path := filepath.Join(a.o.Dir, manifestFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	manifest, err := catalog.Open(path, catalog.Options{NoSync: true})
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer manifest.Close()
	if err := importRecords(ctx, manifest.Update, m.Records); err != nil {
		return err
	}
	return a.withFormer(func(f *former) error {
		return manifest.View(func(want *catalog.Tx) error {
			state.known = f != nil && !a.o.Salvaged.IsZero()
			ad := newAdopter(ctx, a, want, state)
			ad.former = f
			if err := ad.trees(); err != nil {
				return fmt.Errorf("look at what is there: %w", err)
			}
			if err := ad.judge(); err != nil {
				return err
			}
			return importRecords(ctx, a.catalog.UpdateNext, ad.overlay())
		})
	})
}
