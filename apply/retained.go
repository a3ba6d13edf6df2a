package apply

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"repld/apply/history"
	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// History says how much of what barriers replace is kept.
type History struct {
	// Keep is how long a barrier can be gone back to; zero: not at all. It is counted
	// in time that the applier was open, so that neither a wrong clock nor a long
	// stop costs the history.
	Keep time.Duration
	// Limit is how many bytes the history may take on disk, the oldest barriers go
	// first; zero: 20 GiB.
	Limit uint64
	// Every thins out the barriers by age, the youngest rule first. Beyond the last
	// rule its distance holds on. nil: all are kept.
	Every []Thinning
}

// Thinning is one rule of [History]: of the barriers younger than Within, one in
// each stretch of the length Apart is kept; zero: all are.
type Thinning struct {
	Within, Apart time.Duration
}

// past returns the history; nil if none is kept.
func (a *Applier) past() *history.DB { return a.kept.Load() }

const (
	historyFile  = "history.db"
	historyLimit = 20 << 30
)

// keepDir is where kept files are, below the own directory; see package history.
const keepDir = "history"

// stateHistory in the catalog is the id of the history and the last step that
// happened; absent: what a history holds doesn't lead to the present state.
const stateHistory = "apply.history"

// keptPath is where a kept file is.
func keptPath(f history.File) string {
	if f.Kind == history.KeptPack {
		return keptShard(f.Step) + strconv.FormatUint(f.Step, 10) + ".pack"
	}
	return keptShard(uint64(f.Node)) + strconv.FormatUint(f.Step, 10) + "-" + strconv.FormatUint(uint64(f.Node), 10)
}

func keptShard(n uint64) string { return keepDir + "/" + strconv.FormatUint(n%stageShards, 16) + "/" }

// openHistory opens the history, or removes what is left of one that isn't wanted
// any more.
func (a *Applier) openHistory() error {
	path := filepath.Join(a.o.Dir, historyFile)
	if a.limit().History.Keep <= 0 {
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err := a.removeKept(); err != nil {
			return err
		}
		return os.Remove(path)
	}
	db, err := history.Open(path)
	if err != nil {
		return err
	}
	a.kept.Store(db)
	if db.Fresh() {
		err = a.removeKept() // of a history whose file was lost
	}
	return errors.Join(err, a.makeKept())
}

// makeKept makes the directories for what is kept.
func (a *Applier) makeKept() (err error) {
	for i := range a.trees {
		for n := range uint64(stageShards) {
			err = errors.Join(err, mkdirAll(a.trees[i].FS, keptShard(n)[:len(keptShard(n))-1]))
		}
	}
	return err
}

func (a *Applier) removeKept() error {
	for i := range a.trees {
		if err := tree.RemoveAll(a.trees[i].FS, tree.InOwn(keepDir)); err != nil && !vanished(err) {
			return err
		}
	}
	return nil
}

// settleHistory makes the history end at the present state. What the catalog
// doesn't know of is dropped.
func (a *Applier) settleHistory() error {
	if a.past() == nil {
		return nil
	}
	last := uint64(0)
	err := a.catalog.View(func(tx *catalog.Tx) error {
		id := a.past().ID()
		if v := tx.Get(stateHistory); len(v) == len(id)+8 && [16]byte(v[:16]) == id {
			last = binary.BigEndian.Uint64(v[16:])
		}
		return nil
	})
	if err == nil {
		err = a.past().Settle(last)
	}
	if err != nil {
		return err
	}
	a.born = a.clock.Mono()
	a.lived = 0
	if steps := a.past().Steps(); len(steps) > 0 {
		a.lived = steps[len(steps)-1].At
	}
	a.reached = a.lived
	a.planned = false
	return a.emptyTrash(wasteBatch)
}

// renewHistory throws away a history that can't be used, and begins another.
func (a *Applier) renewHistory(cause error) error {
	a.logger.Error("the history can't be used and begins anew", "error", cause)
	if err := errors.Join(a.past().Renew(), a.removeKept(), a.makeKept()); err != nil {
		return errors.Join(cause, err)
	}
	return a.settleHistory()
}

// age is the history's clock.
func (a *Applier) age() time.Duration { return a.lived + a.clock.Mono() - a.born }

// chronicle plans what the history keeps of the barrier that c stands for. The
// history never keeps a barrier of the log from being applied: if it can't be
// written it is begun anew behind it. The way back from a rewind it has to hold.
func (a *Applier) chronicle(ctx context.Context, c *commit) error {
	if a.past() == nil || c.seed || c.repair {
		return nil
	}
	if cert, _ := a.Applied(); cert.ID.IsZero() {
		return nil
	}
	err := a.chronicleOnce(ctx, c)
	for short(err) && !c.travel {
		more, dropErr := a.dropOldest()
		if dropErr != nil || !more {
			break
		}
		err = a.chronicleOnce(ctx, c)
	}
	if err == nil || ctx.Err() != nil || c.travel {
		return err
	}
	a.logger.Error("the history can't be written and begins anew behind this barrier", "barrier", c.id, "error", err)
	c.step = 0
	return nil
}

// short reports whether err says that there is no room.
func short(err error) bool {
	return full(err) || noRoom(err)
}

func (a *Applier) chronicleOnce(ctx context.Context, c *commit) error {
	if a.planned { // of an attempt that wasn't committed
		if err := a.settleHistory(); err != nil {
			return err
		}
	}
	cert, _ := a.Applied()
	a.planned = true
	w, err := a.past().Begin(history.Step{Before: cert, At: a.reached, Hidden: a.rewoundTo() != nil})
	if err != nil {
		return err
	}
	k := &keeper{
		a: a, ctx: ctx, w: w, packs: make(map[uint8]*pack), roots: make(map[change.NodeID]uint8), buf: make([]byte, change.ChunkMax),
	}
	if err := k.plan(); err != nil {
		return err
	}
	c.step = w.Number()
	return nil
}

// happened makes the step of a published barrier part of the history.
func (a *Applier) happened(c *commit) error {
	if a.past() == nil || c.repair {
		return nil
	}
	a.planned = false
	a.reached = a.age()
	if a.rewoundTo() != nil {
		a.unfolded = c.step
	}
	var err error
	if c.step == 0 || a.torn {
		a.torn = false
		err = a.past().Settle(0)
	} else {
		err = a.past().Happened(c.step)
	}
	if err != nil {
		return a.renewHistory(err)
	}
	return nil
}

// retire takes the present object of a node away; the history may want to keep it.
func (p *publisher) retire(id change.NodeID, index uint8, at tree.Place, st *change.Stat) error {
	file := history.File{Kind: history.KeptWhole, Tree: index, Step: p.c.step, Node: id}
	if !p.keeps(file, st) {
		return ignoreVanished(p.fs(index).Remove(at))
	}
	to := tree.InOwn(keptPath(file))
	err := p.fs(index).RenameNoReplace(at, to)
	if exists(err) { // under another of its names
		return ignoreVanished(p.fs(index).Remove(at))
	}
	if err != nil && !vanished(err) && p.untenable(err) {
		return ignoreVanished(p.fs(index).Remove(at))
	}
	return ignoreVanished(err)
}

// link keeps the present object of a node that is about to be replaced.
func (p *publisher) linkKept(id change.NodeID, index uint8, at tree.Place, st *change.Stat) error {
	file := history.File{Kind: history.KeptWhole, Tree: index, Step: p.c.step, Node: id}
	if !p.keeps(file, st) {
		return nil
	}
	err := p.fs(index).Link(at, tree.InOwn(keptPath(file)))
	if err == nil || exists(err) || vanished(err) || p.untenable(err) {
		return nil
	}
	return err
}

func (p *publisher) keeps(f history.File, st *change.Stat) bool {
	return p.c.step != 0 && p.a.past() != nil && st.Kind == change.KindFile && p.a.past().Keeps(f)
}

// untenable reports whether an error only means that this object can't be kept. The
// history then begins anew behind the barrier.
func (p *publisher) untenable(err error) bool {
	if p.c.travel || !short(err) && !errors.Is(err, syscall.EMLINK) && !errors.Is(err, syscall.EPERM) {
		return false
	}
	p.a.logger.Error("a replaced file can't be kept, the history begins anew", "error", err)
	p.a.torn = true
	return true
}

// retired reports whether an object was kept by this barrier already: linking it
// changed its change time.
func (p *publisher) retired(id change.NodeID, object change.ObjectID) bool {
	if p.c.step == 0 || p.a.past() == nil {
		return false
	}
	for index := range p.a.trees {
		file := history.File{Kind: history.KeptWhole, Tree: uint8(index), Step: p.c.step, Node: id}
		if st, err := p.fs(uint8(index)).Lstat(tree.InOwn(keptPath(file))); err == nil && st.ID == object {
			return true
		}
	}
	return false
}

// wasteBatch is how much waste is removed at once.
const wasteBatch = 2000

// emptyTrash removes at most limit kept files, or pieces of such, that nobody needs.
func (a *Applier) emptyTrash(limit int) error {
	for limit > 0 {
		waste, err := a.past().Trash(min(limit, wasteBatch))
		if err != nil || len(waste) == 0 {
			return err
		}
		for i := range waste {
			if err := a.removeWaste(&waste[i]); err != nil {
				return fmt.Errorf("thin the history: %w", err)
			}
		}
		if err := a.past().Removed(waste); err != nil {
			return err
		}
		limit -= len(waste)
	}
	return nil
}

func (a *Applier) removeWaste(w *history.Waste) error {
	if int(w.File.Tree) >= len(a.trees) {
		return nil // the tree was taken out of the configuration
	}
	fsys, at := a.trees[w.File.Tree].FS, tree.InOwn(keptPath(w.File))
	if w.Length == 0 {
		return ignoreVanished(fsys.Remove(at))
	}
	f, err := fsys.OpenWrite(at)
	if err != nil {
		return ignoreVanished(err)
	}
	defer f.Close()
	return f.PunchHole(int64(w.Offset), int64(w.Length))
}
