package daemon

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/dustin/go-humanize"

	"repld/apply"
	"repld/change"
	"repld/control"
)

// salvageSummary says what of a group only this node has, or what of it was kept.
type salvageSummary struct {
	ID                               string // of the set; "": there is none
	Changed, Created, Deleted, Bytes uint64
	// Unknown: it can't be told; what differs from the peer's base is kept while joining.
	Unknown bool
}

func summaryOf(d apply.Diverged) salvageSummary {
	return salvageSummary{ID: d.ID, Changed: d.Changed, Created: d.Created, Deleted: d.Deleted, Bytes: d.Bytes, Unknown: d.Unknown}
}

// checkSalvage says what salvageDiverged would keep, and refuses if there is no room for
// it. It changes nothing. The group must be closed, or about to be.
func (g *group) checkSalvage(ctx context.Context, common change.BarrierID) (salvageSummary, error) {
	left, epoch, err := g.closedSender(ctx)
	if isDamage(err) {
		return salvageSummary{Unknown: true}, nil
	}
	if err != nil || !left {
		return salvageSummary{}, err
	}
	found, err := g.diverged(ctx, epoch, common, apply.FindDiverged)
	return summaryOf(found), g.explainSalvage(err)
}

// salvageDiverged keeps what this node has changed in an epoch, its own, beyond the
// newest barrier that its peer has; zero: not known. The group must be closed, or about to
// be. It may be repeated. What the group was when it was closed doesn't matter: a standby has nothing
// that its peer hadn't.
func (g *group) salvageDiverged(ctx context.Context, own change.Epoch, common change.BarrierID) (salvageSummary, error) {
	left, epoch, err := g.closedSender(ctx)
	if isDamage(err) {
		return salvageSummary{Unknown: true}, g.storeCommon(commonFile{})
	}
	if err != nil || !left {
		return salvageSummary{}, err
	}
	if own == 0 { // this node has lost what it was
		own = epoch
	}
	found, err := g.diverged(ctx, own, common, apply.SalvageDiverged)
	if err != nil {
		return salvageSummary{}, g.explainSalvage(err)
	}
	note := commonFile{Epoch: epoch}
	if !found.Unknown {
		note.Barrier = common
	}
	return summaryOf(found), g.storeCommon(note)
}

// closedSender waits until the group is closed, and reports whether its directory is a
// primary's.
func (g *group) closedSender(ctx context.Context) (left bool, epoch change.Epoch, err error) {
	if err := g.closed(ctx); err != nil {
		return false, 0, err
	}
	return g.leftBySender()
}

// explainSalvage gives an error of keeping what has diverged an exit code and a hint.
func (g *group) explainSalvage(err error) error {
	if !errors.Is(err, apply.ErrSalvageRoom) {
		return err
	}
	return control.Errorf(control.ExitRefused, "group %s: %w", g.name, err).
		WithHint("make room on the file systems of the trees; nothing was changed")
}

// tellSalvaged notes what was kept when the group became a standby's.
func (g *group) tellSalvaged(d apply.Diverged) {
	if d.ID == "" {
		return
	}
	g.event(control.EventSalvaged, map[string]string{"salvage": d.ID, "directory": filepath.Join(g.salvageDir(d.Common.Epoch))},
		"what only this node has was kept as %s before it follows its peer: %d changed, %d created, %d deleted; %s",
		d.ID, d.Changed, d.Created, d.Deleted, humanize.IBytes(d.Bytes))
}
