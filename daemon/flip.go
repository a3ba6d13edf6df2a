package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"repld/apply"
	"repld/capture"
	"repld/change"
	"repld/config"
	"repld/control"
	"repld/durable"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
)

// A change of role is found by the sides of a group when they are opened: the group's
// directory is then the other side's. Each turns it into its own, step by step, and
// whatever is interrupted goes on with the next opening.
//
//	to sending     finish a barrier that was committed, set the log behind the applied
//	               one aside, hand the catalog over (package apply), go on with it
//	               (package capture); what the standby kept of the past is removed
//	               beside the work
//	to receiving   keep what only this node has, remove the standby's leftovers, give
//	               the catalog the name former.db: a base is pulled then, and compared
//	               with that

// commonFile says up to where the peer has what this node had when it sent.
type commonFile struct {
	Epoch   change.Epoch     `yaml:"epoch"` // in which this node sent
	Barrier change.BarrierID `yaml:"barrier,omitempty"`
	// Salvaged is when what this node has beyond was kept, so that a base may replace it.
	Salvaged time.Time `yaml:"salvaged,omitempty"`
}

// commonName is the name of the commonFile in a group's directory.
const commonName = "common.yaml"

func (g *group) loadCommon() (f commonFile, err error) {
	_, err = g.state.load(groupFile(g.name, commonName), &f)
	return f, err
}

func (g *group) storeCommon(f commonFile) error {
	return g.state.store(groupFile(g.name, commonName), f)
}

// handedOver notes that the peer has applied a barrier of this node, after which no
// service writes any more: from there on it may be promoted without any loss.
func (g *group) handedOver(id change.BarrierID) error {
	return g.storeCommon(commonFile{Epoch: g.task().epoch, Barrier: id})
}

// salvageDir is where the state directory has what was set aside when an epoch ended,
// or what is known of it.
func (g *group) salvageDir(epoch change.Epoch) string {
	return g.state.file(filepath.Join("salvage", fmt.Sprint(epoch), g.name))
}

// openVolumes opens the group's trees for writing. The caller closes them, after an
// error, too.
func (g *group) openVolumes() (volumes []*tree.Volume, trees []apply.Tree, err error) {
	known := rootsFile{}
	rel := groupFile(g.name, rootsName)
	if _, err := g.state.load(rel, &known); err != nil {
		return nil, nil, err
	}
	found := false
	for _, t := range g.conf.Trees {
		v, err := tree.OpenVolume(t.Path, tree.VolumeOptions{Options: tree.Options{RootID: known[t.Name]}, Staging: t.Staging})
		if err != nil {
			return volumes, nil, err
		}
		volumes = append(volumes, v)
		if known[t.Name] == "" {
			known[t.Name], found = v.Root().ID(), true
		}
		excluded, _, err := patternsOf(t)
		if err != nil {
			return volumes, nil, err
		}
		trees = append(trees, apply.Tree{Name: t.Name, FS: v, Root: v.Root(), Skip: excluded.Match})
	}
	if found {
		err = g.state.store(rel, known)
	}
	return volumes, trees, err
}

func closeVolumes(volumes []*tree.Volume) {
	for _, v := range volumes {
		v.Close()
	}
}

// becomeSender makes a standby's directory a primary's.
func (m *member) becomeSender() error {
	held, err := apply.Holds(m.catalog)
	if err != nil || !held {
		return err
	}
	volumes, trees, err := m.openVolumes()
	defer closeVolumes(volumes)
	if err != nil {
		return err
	}
	epoch := m.task().epoch
	aside := filepath.Join(m.salvageDir(epoch), "log")
	p, err := apply.Promote(apply.PromoteOptions{
		Options: apply.Options{
			Group: m.name, Dir: m.dir, Log: m.log, Catalog: m.catalog, Fetch: noFetcher{}, Trees: trees,
			Clock: m.clock, Board: m.board, Logger: m.logger, History: applyLimits(m.settings()).History, Epoch: epoch,
		},
		LogDir: m.file("log"), Aside: aside,
	})
	if errors.Is(err, apply.ErrNeedsSeed) {
		return control.Errorf(control.ExitRefused, "group %s can't be sent from this node: %w", m.name, err).
			WithHint("the node can serve only what it has: bring the former primary back, or remove %s to take the trees as they lie there", m.file("catalog.db"))
	}
	if err != nil {
		return fmt.Errorf("make the standby's state a primary's: %w", err)
	}
	if p.SetAside > 0 {
		m.event(control.EventSalvaged, map[string]string{"directory": aside, "barrier": p.Barrier.ID.String()},
			"%d bytes of log behind barrier %s were set aside as %s: they are not applied", p.SetAside, p.Barrier.ID, aside)
	}
	return nil
}

// noFetcher is for an applier that only finishes what it has.
type noFetcher struct{}

// Fetch implements [apply.Fetcher].
func (noFetcher) Fetch(context.Context, []change.Digest, func(change.Digest, []byte) error) error {
	return errors.New("this node is being promoted, and asks its peer for nothing")
}

// sweep removes what the standby has left behind that this node was, then waits until
// ctx ends.
func (p *sending) sweep(ctx context.Context) error {
	if err := p.group.sweep(ctx); err != nil && ctx.Err() == nil {
		p.logger.Error("remove what this node had as a standby; it is tried again with the next start", "group", p.name, "error", err)
	}
	<-ctx.Done()
	return ctx.Err()
}

func (g *group) sweep(ctx context.Context) error {
	if _, err := os.Lstat(g.file(apply.ScratchName)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	volumes, trees, err := g.openVolumes()
	defer closeVolumes(volumes)
	if err != nil {
		return err
	}
	return apply.Sweep(ctx, g.dir, trees)
}

// becomeReceiver makes a primary's directory a standby's, before anything of it is
// open. It returns when what only this node has was kept, so that a base may replace it;
// zero: it wasn't.
func (g *group) becomeReceiver(ctx context.Context) (salvaged time.Time, err error) {
	left, epoch, err := g.leftBySender()
	if err != nil {
		return salvaged, err
	}
	common, err := g.loadCommon()
	if err != nil || !left {
		return common.Salvaged, err
	}
	if common.Epoch != epoch {
		common = commonFile{Epoch: epoch} // of an earlier time
	}
	if !common.Barrier.IsZero() {
		found, err := g.diverged(ctx, epoch, common.Barrier, apply.SalvageDiverged)
		if err != nil {
			return salvaged, g.explainSalvage(err)
		}
		g.tellSalvaged(found)
		if !found.Unknown {
			common.Salvaged = found.At
		}
	}
	if err := g.storeCommon(common); err != nil {
		return salvaged, err
	}
	if err := g.sweep(ctx); err != nil {
		return salvaged, err
	}
	if err := os.Rename(g.file(catalogName), g.file(apply.FormerName)); err != nil {
		return salvaged, err
	}
	return common.Salvaged, durable.SyncDir(g.dir)
}

// catalogName is the name of the catalog in a group's directory.
const catalogName = "catalog.db"

// leftBySender reports whether the group's directory is a primary's, and of which epoch.
func (g *group) leftBySender() (left bool, epoch change.Epoch, err error) {
	if _, err := os.Lstat(g.file(catalogName)); errors.Is(err, fs.ErrNotExist) {
		return false, 0, nil
	}
	c, err := catalog.Open(g.file(catalogName), catalog.Options{})
	if err != nil {
		return false, 0, err
	}
	defer c.Close()
	roots := rootsFile{}
	err = c.View(func(tx *catalog.Tx) error {
		if left, err = capture.Holds(tx); err != nil || !left {
			return err
		}
		epoch = tx.Epoch()
		for _, t := range g.conf.Trees {
			if id := capture.RootID(tx, t.Name); id != "" {
				roots[t.Name] = id
			}
		}
		return nil
	})
	if err == nil && left && len(roots) > 0 {
		// The trees are to be the ones that were captured.
		err = g.state.store(groupFile(g.name, rootsName), roots)
	}
	return left, epoch, err
}

// knowledge is what a primary's catalog proves in this boot of the machine.
func knowledge(tx *catalog.Tx) (func(*catalog.Local, *change.Stat) bool, error) {
	k, err := capture.KnowledgeOf(tx, bootID())
	return k.Proves, err
}

// diverged looks for, or keeps, what this node has beyond a barrier. Nothing of the
// group may be open.
func (g *group) diverged(ctx context.Context, own change.Epoch, common change.BarrierID,
	do func(context.Context, apply.DivergedOptions) (apply.Diverged, error),
) (apply.Diverged, error) {
	found, err := g.divergedIn(ctx, own, common, do)
	if isDamage(err) {
		// It can't be told then, and what differs is set aside while joining.
		g.logger.Error("what only this node has can't be told", "group", g.name, "error", err)
		return apply.Diverged{Common: common, Unknown: true}, nil
	}
	return found, err
}

func (g *group) divergedIn(ctx context.Context, own change.Epoch, common change.BarrierID,
	do func(context.Context, apply.DivergedOptions) (apply.Diverged, error),
) (apply.Diverged, error) {
	volumes, trees, err := g.openVolumes()
	defer closeVolumes(volumes)
	if err != nil {
		return apply.Diverged{}, err
	}
	c, err := catalog.Open(g.file(catalogName), catalog.Options{})
	if err != nil {
		return apply.Diverged{}, err
	}
	defer c.Close()
	log, err := journal.Open(g.file("log"), journal.Options{})
	if err != nil {
		return apply.Diverged{}, err
	}
	defer log.Close()
	paths := map[string]config.Tree{}
	for _, t := range g.conf.Trees {
		paths[t.Name] = t
	}
	return do(ctx, apply.DivergedOptions{
		Trees: trees, Log: log, Catalog: c, Former: knowledge, Common: common, ID: apply.DivergedID(own), Dir: g.salvageDir(own),
		Reserve: func(t *apply.Tree) (uint64, error) {
			_, reserve, _, err := g.space(paths[t.Name].Path)
			return reserve, err
		},
		Clock: g.clock, Logger: g.logger,
	})
}
