package capture

import (
	"errors"
	"fmt"

	"repld/change"
	"repld/health"
	"repld/journal/catalog"
	"repld/tree"
)

// ErrEmptied says that a tree has become empty all at once: a volume that isn't
// mounted, or a mistake, and not to be copied to the standby without being asked for.
var ErrEmptied = errors.New("the tree is suddenly empty")

// emptiedFrom is how many objects a tree must have had for that to be suspicious. A
// spool that holds a few files is empty now and then.
const emptiedFrom = 5

// checkRoots makes sure that what is read are the trees. Once they are back after
// a halt all is looked at again: nobody knows what was missed.
func (c *Capturer) checkRoots() error {
	emptied := false
	for i := range c.opts.Trees {
		t := &c.opts.Trees[i]
		if err := t.Root.Check(); err != nil {
			return err
		}
		err := c.checkEmptied(t)
		if errors.Is(err, ErrEmptied) && c.accepted.Load() {
			emptied, err = true, nil
		}
		if err != nil {
			return err
		}
	}
	if !emptied {
		c.accepted.Store(false)
	}
	if c.State().Halted != nil {
		c.scanAll()
		c.mu.Lock()
		c.state.Halted = nil
		c.mu.Unlock()
		c.resolve(health.GuardHalted)
	}
	return nil
}

// checkEmptied returns ErrEmptied if nothing is in a tree of which the catalog has
// emptiedFrom objects at least.
func (c *Capturer) checkEmptied(t *Tree) error {
	empty, err := t.Root.Empty(t.Skip)
	if err != nil || !empty {
		return err
	}
	known := 0
	err = c.opts.Catalog.View(func(tx *catalog.Tx) error {
		if root, ok := tx.Lookup(change.GroupNode, t.Name); ok {
			known = countBelow(tx, root, emptiedFrom)
		}
		return nil
	})
	if err != nil || known < emptiedFrom {
		return err
	}
	return &tree.Error{
		Op: "check tree", Path: t.Root.Path(), Err: ErrEmptied,
		Hint: "mount what belongs there or bring it back; if everything was removed on purpose, run replctl resume --accept on this node",
	}
}

// countBelow counts what is below a directory, up to a limit.
func countBelow(tx *catalog.Tx, dir change.NodeID, limit int) (n int) {
	for _, node := range tx.Children(dir, "") {
		if n++; n < limit && tx.Kind(node) == change.KindDir {
			n += countBelow(tx, node, limit-n)
		}
		if n >= limit {
			break
		}
	}
	return n
}

// Accept has the next barrier hold that a tree was emptied, for which capturing
// halts. It reports whether there was such a halt; a root that is missing or another
// one can't be accepted.
func (c *Capturer) Accept() bool {
	if !errors.Is(c.State().Halted, ErrEmptied) {
		return false
	}
	c.accepted.Store(true)
	c.wake()
	return true
}

// halt stops capturing until the trees' roots are back.
func (c *Capturer) halt(err error) {
	c.mu.Lock()
	c.state.Halted = err
	c.mu.Unlock()
	condition := health.Condition{Code: health.GuardHalted, Group: c.opts.Group, Text: err.Error()}
	var of *tree.Error
	if errors.As(err, &of) {
		condition.Text, condition.Hint = fmt.Sprintf("nothing is captured: %s %s: %v", of.Op, of.Path, of.Err), of.Hint
	}
	c.opts.Board.Raise(condition)
}
