package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"repld/control"
	"repld/health"
	"repld/wire"
)

// A group consists of the same trees and databases on both nodes. Who opens its
// connection says what it has, and the other side refuses what isn't the same: no
// barrier of theirs could be applied, and nobody would be told why.

// codeContents refuses a group that isn't the same on both nodes. The number is
// transmitted.
const codeContents wire.Code = 64

// contents says what the group consists of here; nil if that is too long to be said.
func (g *group) contents() *wire.Contents {
	c := &wire.Contents{}
	for _, t := range g.conf.Trees {
		c.Trees = append(c.Trees, t.Name)
	}
	for _, d := range g.conf.Databases {
		c.Databases = append(c.Databases, d.Name)
	}
	slices.Sort(c.Trees)
	slices.Sort(c.Databases)
	if !c.Says() {
		return nil
	}
	return c
}

// fits refuses a connection for the group from a peer for which it consists of
// something else, and says so on the board until one comes that fits.
func (g *group) fits(peer wire.Hello) error {
	own := g.contents()
	if own == nil || peer.Contents == nil {
		g.board.Resolve(health.GroupDiffers, g.name, "")
		return nil
	}
	var found []string
	for _, kind := range []struct {
		word      string
		own, peer []string
	}{
		{"trees", own.Trees, peer.Contents.Trees},
		{"databases", own.Databases, peer.Contents.Databases},
	} {
		theirs := slices.Sorted(slices.Values(kind.peer))
		if !slices.Equal(kind.own, theirs) {
			found = append(found, fmt.Sprintf("the %s of group %s are %s on %s, but %s on %s",
				kind.word, g.name, namesOf(kind.own), g.node.name, namesOf(theirs), peer.Node))
		}
	}
	refused := &wire.RefusedError{Code: codeContents, Text: strings.Join(found, "; "),
		Hint: "give the group the same names of trees and databases in the configurations of both nodes, and restart the one that was changed; until then nothing of it is replicated"}
	return g.judgeContents(refused, len(found) > 0)
}

// judgeContents shows that the group isn't the same on both nodes, as this node or
// its peer has found; it returns refused if so.
func (g *group) judgeContents(refused *wire.RefusedError, differs bool) error {
	if !differs {
		g.board.Resolve(health.GroupDiffers, g.name, "")
		return nil
	}
	if g.board.Raise(health.Condition{Code: health.GroupDiffers, Group: g.name, Text: refused.Text, Hint: refused.Hint}) {
		g.mu.Lock()
		s := g.side
		g.mu.Unlock()
		if s != nil {
			s.signal() // who waits for the peer
		}
	}
	return refused
}

// differs refuses what needs the peer while the group isn't the same on both nodes.
func (g *group) differs() error {
	for _, c := range g.board.List() {
		if c.Code == health.GroupDiffers && c.Group == g.name {
			return control.Errorf(control.ExitRefused, "%w", errors.New(c.Text)).
				WithState(string(control.PhaseDisconnected)).WithHint("%s", c.Hint)
		}
	}
	return nil
}

// namesOf lists names for a sentence.
func namesOf(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
