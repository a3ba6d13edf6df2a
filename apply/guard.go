package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"repld/change"
	"repld/health"
	"repld/journal/catalog"
)

// ErrGuardHalted says that a barrier wasn't applied, nor anything changed for it,
// because it would take away too much of a tree. [Applier.Resume] can accept it,
// and a later barrier with which less is lost ends it as well.
type ErrGuardHalted struct {
	Barrier   change.BarrierID `json:"barrier"` // up to which the log was looked at
	Tree      string           `json:"tree"`
	Files     uint64           `json:"files"` // in the tree, all names but directories
	Deleted   uint64           `json:"deleted"`
	Rewritten uint64           `json:"rewritten"` // files that keep less than half of their content
	Percent   int              `json:"percent"`   // the limit
	Examples  []string         `json:"examples"`  // some of the paths, "tree/path"
}

func (e *ErrGuardHalted) Error() string {
	return fmt.Sprintf("barrier %s would delete %d and rewrite %d of the %d files of tree %q: more than %d %%, for example %q",
		e.Barrier, e.Deleted, e.Rewritten, e.Files, e.Tree, e.Percent, e.Examples)
}

// guardHalt is what is kept of a halt, as JSON in the catalog.
type guardHalt struct {
	Found    ErrGuardHalted     `json:"found"`
	Barrier  change.BarrierID   `json:"barrier"`
	End      change.LogPosition `json:"end"`
	Accepted bool               `json:"accepted"`

	took time.Duration // what the last look cost
	at   time.Duration // and when it was, by the monotonic clock
}

const (
	stateGuard   = "apply.guard" // guardHalt
	guardDefault = 50
	// guardLeast is the size in files from which a tree is guarded.
	guardLeast = 20
	// guardSlow is how long a look may take to be repeated at every barrier.
	guardSlow = time.Second
)

// Halted returns what the guard stopped; nil if nothing.
func (a *Applier) Halted() *ErrGuardHalted {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.halted == nil || a.halted.Accepted {
		return nil
	}
	found := a.halted.Found
	return &found
}

// loadGuard takes up a halt from before the last stop. The caller holds a.mu.
func (a *Applier) loadGuard(tx *catalog.Tx) {
	a.halted = nil
	var h guardHalt
	v := tx.Get(stateGuard)
	if v == nil || json.Unmarshal(v, &h) != nil || h.End.Offset <= a.applied.end.Offset {
		return
	}
	a.halted = &h
}

// setHalt notes a halt, or that there is none.
func (a *Applier) setHalt(h *guardHalt) error {
	a.mu.Lock()
	was := a.halted
	a.mu.Unlock()
	if h == nil && was == nil {
		return nil
	}
	var v []byte
	if h != nil {
		var err error
		if v, err = json.Marshal(h); err != nil {
			return err
		}
	}
	if err := a.putState(stateGuard, v); err != nil {
		return err
	}
	a.mu.Lock()
	a.halted = h
	a.mu.Unlock()
	return nil
}

// acceptHalt lets what is halted go on.
func (a *Applier) acceptHalt() error {
	a.judging.Lock()
	defer a.judging.Unlock()
	a.mu.Lock()
	h := a.halted
	a.mu.Unlock()
	if h == nil {
		return nil
	}
	accepted := *h
	accepted.Accepted = true
	return a.setHalt(&accepted)
}

// dropAccepted takes back that a barrier was accepted, for it can't be applied.
func (a *Applier) dropAccepted(id change.BarrierID) error {
	a.judging.Lock()
	defer a.judging.Unlock()
	a.mu.Lock()
	h := a.halted
	a.mu.Unlock()
	if h == nil || h.Barrier != id {
		return nil
	}
	return a.setHalt(nil)
}

// acceptedTarget returns the barrier that the operator accepted, in place of the newest.
func (a *Applier) acceptedTarget(target point) (point, error) {
	a.mu.Lock()
	h := a.halted
	a.mu.Unlock()
	if h == nil || !h.Accepted {
		return target, nil
	}
	accepted := point{id: h.Barrier, end: h.End}
	at, err := a.replayed()
	if err != nil || at.end.Offset <= accepted.end.Offset {
		return accepted, err
	}
	a.ahead = false // more was replayed than was accepted: once more from the log
	return accepted, a.catalog.DropNext()
}

// guard halts a barrier that takes away too much. The overlay is at target.
func (a *Applier) guard(ctx context.Context, target point) error {
	a.mu.Lock()
	h := a.halted
	a.mu.Unlock()
	if a.limit().Guard >= 100 || a.Seeding() || h != nil && h.Accepted && h.Barrier == target.id {
		return nil
	}
	begun := a.clock.Mono()
	if h != nil && h.took > guardSlow && begun-h.at < 10*h.took {
		return &h.Found
	}
	var found *ErrGuardHalted
	err := a.catalog.ViewNext(func(tx *catalog.Tx) (err error) {
		found, err = (&guard{a: a, ctx: ctx, next: tx, base: tx.Before(), trees: make(map[change.NodeID]*toll)}).look()
		return err
	})
	if err != nil {
		return err
	}
	a.judging.Lock() // an operator's word must not be lost in between
	defer a.judging.Unlock()
	if found == nil {
		return a.setHalt(nil)
	}
	a.mu.Lock()
	accepted := a.halted != nil && a.halted.Accepted && a.halted.Barrier == target.id
	a.mu.Unlock()
	if accepted { // meanwhile
		return nil
	}
	found.Barrier = target.id
	now := a.clock.Mono()
	err = a.setHalt(&guardHalt{Found: *found, Barrier: target.id, End: target.end, took: now - begun, at: now})
	if err != nil {
		return err
	}
	return found
}

// raiseHalt tells the health board of a halt.
func (a *Applier) raiseHalt(e *ErrGuardHalted) {
	if a.o.Board != nil {
		a.o.Board.Raise(health.Condition{Code: health.GuardHalted, Group: a.o.Group, Text: "nothing is applied: " + e.Error(),
			Hint: "`replctl resume --accept` if that is meant; else the standby still has the state before: take over from it, or mend the primary"})
	}
}

// guard counts what the overlay takes away.
type guard struct {
	a          *Applier
	ctx        context.Context
	next, base *catalog.Tx
	trees      map[change.NodeID]*toll // by root
}

// toll is what one tree loses.
type toll struct {
	deleted, rewritten uint64
	examples           []change.NodeID
}

// look returns what is too much, nil if nothing is.
func (g *guard) look() (*ErrGuardHalted, error) {
	for ch := range g.next.ChangedNodes() {
		if err := g.ctx.Err(); err != nil {
			return nil, err
		}
		if err := g.node(&ch); err != nil {
			return nil, err
		}
	}
	percent := uint64(g.a.limit().Guard)
	for root, t := range g.trees {
		lost := t.deleted + t.rewritten
		if lost*100 <= guardLeast*percent {
			continue
		}
		files, more := g.count(root, lost*100/percent+1)
		if more || files < guardLeast || lost*100 <= files*percent {
			continue
		}
		e := &ErrGuardHalted{Files: files, Deleted: t.deleted, Rewritten: t.rewritten, Percent: int(percent)}
		e.Tree, _, _ = g.base.Path(root)
		for _, id := range t.examples {
			if at, err := g.a.locate(g.base, id); err == nil {
				e.Examples = append(e.Examples, g.a.named(at))
			}
		}
		return e, nil
	}
	return nil, nil
}

func (g *guard) node(ch *catalog.NodeChange) error {
	if ch.Before == nil || ch.Before.Kind == change.KindDir {
		return nil
	}
	heir, now := ch.ID, ch.After
	if ch.After == nil {
		// A file that was written anew and renamed to its name isn't deleted.
		for parent, name := range g.base.Names(ch.ID) {
			id, ok := g.next.Lookup(parent, name)
			if !ok || g.next.Kind(id) != ch.Before.Kind {
				break
			}
			n, _, err := g.next.Node(id)
			if err != nil {
				return err
			}
			heir, now = id, &n
			break
		}
	}
	if now != nil && (ch.Before.Kind != change.KindFile || ch.Before.Size == 0 || now.Content == ch.Before.Content || g.keepsHalf(ch, heir)) {
		return nil
	}
	root, ok := g.base.TreeOf(ch.ID)
	if !ok {
		return nil
	}
	t := g.trees[root]
	if t == nil {
		t = &toll{}
		g.trees[root] = t
	}
	if now == nil {
		t.deleted++
	} else {
		t.rewritten++
	}
	if len(t.examples) < examplesKept {
		t.examples = append(t.examples, ch.ID)
	}
	return nil
}

// keepsHalf reports whether a file's new content has at least half of the former.
func (g *guard) keepsHalf(ch *catalog.NodeChange, heir change.NodeID) bool {
	var lost uint64
	for s := range difference(g.base.Refs(ch.ID, 0), g.next.Refs(heir, 0)) {
		for _, r := range s.Refs {
			lost += r.Length
		}
		if lost > ch.Before.Size/2 {
			return false
		}
	}
	return true
}

// count counts the files of a tree up to enough; more says that there are more.
func (g *guard) count(root change.NodeID, enough uint64) (files uint64, more bool) {
	dirs := []change.NodeID{root}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		for _, id := range g.base.Children(dir, "") {
			if g.base.Kind(id) == change.KindDir {
				dirs = append(dirs, id)
				continue
			}
			if files++; files >= enough {
				return files, true
			}
		}
	}
	return files, false
}
