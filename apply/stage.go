package apply

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/journal/catalog"
	"repld/tree"
)

// stager makes everything in the staging directories that a barrier needs. One
// goroutine walks the overlay and looks up where data is to be found; several
// read, fetch, check and write. They share nothing but a queue.
type stager struct {
	a      *Applier
	ctx    context.Context
	forced map[change.NodeID]bool // to be made anew though nothing changed: a repair
	pass   int

	next, base *catalog.Tx
	queue      chan []*part
	group      []*part
	groupBytes uint64
	groupAlone int // parts of group without those of twins

	bare    bool // the base has no content: nothing is to be found in the trees
	fresh   bool // nothing is staged yet
	foreign bool // chunks may be found in the log or in the history
	// queued are files that were queued with an earlier one of the same content, and whose
	// own turn has yet to come.
	queued  map[change.NodeID]bool
	homes   map[change.NodeID]place
	checked map[change.NodeID]bool
	// late are the files that wait for others which hold the same data, unless those
	// are more than lateMost: then the next pass looks at everything again.
	late    deferred
	results *results
	// measured makes walk add up the bytes that would be written, by tree, instead of
	// queueing anything; nil: it queues.
	measured []uint64
}

const (
	passFirst = 1
	// groupBytes, groupParts and groupFiles bound what a worker takes, and fetches, at
	// once; twins count with the files that it may have open only.
	groupBytes = 4 << 20
	groupParts = 64
	groupFiles = 192
	queueDepth = 2
	homesKept  = 4096
)

// stage makes what the overlay needs; forced names nodes to be made anew. What
// is staged already from an earlier attempt stays. If data is missing everywhere,
// the rest is staged and the error is [ErrIncomplete].
func (a *Applier) stage(ctx context.Context, forced map[change.NodeID]bool) error {
	results := &results{a: a, room: newRoom(a)}
	var late deferred
	for pass := passFirst; ; pass++ {
		if late.ids == nil { // else what was found to be missing isn't looked for again
			results.reset()
		}
		next, err := a.stagePass(ctx, pass, forced, late, results)
		if err = errors.Join(err, results.flush()); noRoom(err) {
			if more, e := results.room.relent(ctx); e == nil && more {
				pass--
				late = deferred{} // all is looked at
				continue
			}
		}
		if err != nil {
			results.room.remember()
			return err
		}
		if next.count == 0 {
			a.tight = nil
			break
		}
		late = next
	}
	return results.missing()
}

// deferred are files that are left to the next pass.
type deferred struct {
	count uint64
	ids   []change.NodeID // nil if there are too many
}

// lateMost bounds the files that are remembered for the next pass. Tests make it small.
var lateMost uint64 = 1 << 16

func (d *deferred) add(id change.NodeID) {
	if d.count++; d.count <= lateMost {
		d.ids = append(d.ids, id)
	} else {
		d.ids = nil
	}
}

func (a *Applier) stagePass(ctx context.Context, pass int, forced map[change.NodeID]bool, late deferred, res *results) (deferred, error) {
	group, ctx := errgroup.WithContext(ctx)
	s := &stager{
		a: a, ctx: ctx, forced: forced, pass: pass, queue: make(chan []*part, queueDepth), results: res,
		homes: make(map[change.NodeID]place), checked: make(map[change.NodeID]bool), queued: make(map[change.NodeID]bool),
	}
	group.Go(func() error {
		defer close(s.queue)
		return a.catalog.ViewNext(func(tx *catalog.Tx) error {
			if late.ids != nil {
				return s.again(tx, late.ids)
			}
			return s.walk(tx)
		})
	})
	for range a.o.Workers {
		group.Go(func() error { return newWorker(ctx, a, res).run(s.queue) })
	}
	err := group.Wait()
	return s.late, errors.Join(err, res.abandon())
}

// again makes what the pass before has left.
func (s *stager) again(tx *catalog.Tx, late []change.NodeID) error {
	if err := s.begin(tx); err != nil {
		return err
	}
	for _, id := range late {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if err := s.need(id, stagedFull); err != nil {
			return err
		}
	}
	return s.send()
}

// begin notes what the pass may rely on.
func (s *stager) begin(tx *catalog.Tx) error {
	s.next, s.base = tx, tx.Before()
	s.bare = bare(s.base)
	return s.a.scratch.view(func(t *scratchTx) error {
		s.fresh = t.b(bucketStaged).empty()
		s.foreign = !t.b(bucketChunks).empty() || !t.b(bucketFound).empty()
		return nil
	})
}

// walk finds what has to be made.
func (s *stager) walk(tx *catalog.Tx) error {
	if err := s.begin(tx); err != nil {
		return err
	}
	for id := range s.forced {
		if err := s.need(id, stagedFull); err != nil {
			return err
		}
	}
	for ch := range tx.ChangedNodes() {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if ch.After == nil || s.forced[ch.ID] {
			continue
		}
		if s.queued[ch.ID] {
			delete(s.queued, ch.ID)
			continue
		}
		if err := s.changed(&ch); err != nil {
			return err
		}
	}
	for ch := range tx.ChangedNames() {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		for _, id := range [2]change.NodeID{ch.Before, ch.After} {
			if err := s.moved(id); err != nil {
				return err
			}
		}
	}
	return s.send()
}

// changed decides how a node is staged that is new or differs in itself.
func (s *stager) changed(ch *catalog.NodeChange) error {
	if ch.Before == nil {
		return s.need(ch.ID, stagedFull)
	}
	differs := ch.Content || ch.Before.Meta.Target != ch.After.Meta.Target || ch.Before.Meta.Rdev != ch.After.Meta.Rdev
	if !differs || ch.After.Kind == change.KindDir {
		return s.existing(ch.ID)
	}
	if ch.After.Kind == change.KindFile && ch.After.Size >= s.a.o.RedoMin && (!s.a.Seeding() || s.a.seedKnown() && !ch.Before.Local.Racy) {
		if ok, err := s.redo(ch); ok || err != nil {
			return err
		}
	}
	return s.need(ch.ID, stagedFull)
}

// moved checks a node whose names change.
func (s *stager) moved(id change.NodeID) error {
	if id == 0 || s.forced[id] || s.base.Kind(id) == 0 || s.next.Kind(id) == 0 {
		return nil
	}
	if _, ok, err := s.stagedAs(id); ok || err != nil {
		return err
	}
	return s.existing(id)
}

// existing checks that the object which a node keeps is as it was published. A
// file that isn't is made anew; a directory that isn't there any more can't be.
func (s *stager) existing(id change.NodeID) error {
	if s.checked[id] {
		return nil
	}
	if len(s.checked) > homesKept {
		clear(s.checked)
	}
	s.checked[id] = true
	n, ok, err := s.base.Node(id)
	if err != nil || !ok {
		return err
	}
	at, err := s.home(id)
	if err != nil {
		return err
	}
	if at.path == "" {
		return nil // a tree's root; Root.Check looks after it
	}
	st, err := s.a.trees[at.tree].FS.Lstat(tree.InTree(at.path))
	if err != nil && !vanished(err) {
		return err
	}
	switch {
	case n.Kind == change.KindDir && (err != nil || st.ID != n.Local.ObjectID):
		return fmt.Errorf("%w: the directory %q isn't the one that was published", ErrForeign, at.path)
	case n.Kind == change.KindDir, err == nil && untouched(&n.Local, &st, false):
		return nil
	}
	if s.measured == nil {
		s.a.noteForeign(fmt.Sprintf("%q isn't as it was published", at.path))
	}
	return s.need(id, stagedFull)
}

// stagedAs returns what is staged for a node, if it still serves.
func (s *stager) stagedAs(id change.NodeID) (st staged, ok bool, err error) {
	n, there, err := s.next.Node(id)
	if err != nil || !there {
		return st, false, err
	}
	return s.stagedNode(id, &n)
}

// stagedNode is stagedAs for a node that was looked up already.
func (s *stager) stagedNode(id change.NodeID, n *catalog.Node) (st staged, ok bool, err error) {
	want := wanted(n)
	err = s.a.scratch.view(func(t *scratchTx) error {
		st, ok, err = t.staged(id)
		ok = ok && st.want == want
		return err
	})
	return st, ok, err
}

// need stages a node as a whole, unless that was done before.
func (s *stager) need(id change.NodeID, how uint8) error {
	n, ok, err := s.next.Node(id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("node %d is to be staged, but it is gone", id)
	}
	at, err := s.a.locate(s.next, id)
	if err != nil {
		return err
	}
	if at.path == "" && n.Kind == change.KindDir {
		return nil // the root of a tree
	}
	b := &building{id: id, node: n, at: at, how: how}
	var was staged
	ok = false
	if !s.fresh || s.base.Kind(id) != 0 { // a new one comes once in each pass
		if was, ok, err = s.stagedNode(id, &n); err != nil {
			return err
		}
	}
	if s.measured != nil {
		if !ok || was.how != how {
			s.measure(b)
		}
		return nil
	}
	if ok && was.how == how {
		if done, err := s.takeOver(b, &was); done || err != nil {
			return err
		}
	}
	if ok && was.how == stagedUnable {
		return nil
	}
	b.parts.Store(1)
	if n.Kind != change.KindFile {
		return s.add(&part{b: b})
	}
	return s.file(b)
}

// measure adds what a file would take up.
func (s *stager) measure(b *building) {
	if b.node.Kind != change.KindFile {
		return
	}
	s.measured[b.at.tree] += dataOf(s.next, b.id)
}

// takeOver takes over what was staged in an earlier attempt, with new metadata if
// that changed. It reports false if it isn't there after all.
func (s *stager) takeOver(b *building, was *staged) (bool, error) {
	fsys := s.a.trees[b.at.tree].FS
	st, err := fsys.Lstat(tree.InOwn(stagePath(b.id)))
	if vanished(err) || err == nil && st.ID != was.id {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	now := metaDigest(&b.node.Meta)
	if was.meta != now && b.node.Kind != change.KindDir {
		denied, err := fsys.SetMeta(tree.InOwn(stagePath(b.id)), b.node.Kind, &b.node.Meta)
		if err != nil {
			return false, err
		}
		s.a.denyOnce(denied)
		was.meta = now
		if err := s.results.add(b.id, was); err != nil {
			return false, err
		}
	}
	if s.pass == passFirst {
		s.a.progress.file(b.node.Size, b.node.Kind)
	}
	return true, nil
}

// home returns where the base has a node, remembering some.
func (s *stager) home(id change.NodeID) (place, error) {
	if at, ok := s.homes[id]; ok {
		return at, nil
	}
	at, err := s.a.locate(s.base, id)
	if err != nil {
		return at, err
	}
	if len(s.homes) >= homesKept {
		clear(s.homes)
	}
	s.homes[id] = at
	return at, nil
}

// add queues a part.
func (s *stager) add(p *part) error {
	s.join(p)
	s.groupAlone++
	if s.groupAlone < groupParts && len(s.group) < groupFiles && s.groupBytes < groupBytes {
		return nil
	}
	return s.send()
}

// join puts a part into the group.
func (s *stager) join(p *part) {
	s.group = append(s.group, p)
	s.groupBytes += p.bytes
}

func (s *stager) send() error {
	if len(s.group) == 0 {
		return nil
	}
	select {
	case s.queue <- s.group:
		s.group, s.groupBytes, s.groupAlone = nil, 0, 0
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}
