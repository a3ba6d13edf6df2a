package apply

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"repld/change"
	"repld/tree"
)

// dress sets the metadata of everything that was touched and isn't a freshly
// staged object, directories last, and has the new change times recorded.
func (p *publisher) dress() error {
	return p.each(bucketTouch, func(k, v []byte) error {
		t, err := decodeTouched(k, v)
		if err != nil {
			return err
		}
		if int(t.tree) >= len(p.a.trees) {
			return fmt.Errorf("%w: tree %d", ErrScratch, t.tree)
		}
		return p.dressOne(&t)
	})
}

func (p *publisher) dressOne(t *touched) error {
	n, ok, err := p.next.Node(t.node)
	if err != nil || !ok {
		return err
	}
	at := tree.InTree(t.path)
	denied, err := p.fs(t.tree).SetMeta(at, n.Kind, &n.Meta)
	if vanished(err) {
		p.lost(t.node, t.path, "vanished after it was published")
		return nil
	}
	if err != nil {
		return err
	}
	p.a.denyOnce(denied)
	return p.learn(t.node, at, t.tree)
}

// listed joins the keys of a set for a message.
func listed(set map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(set)), ", ")
}

// isSpecial reports whether making a node of this kind takes one system call.
func isSpecial(kind change.Kind) bool { return kind != change.KindFile }
