package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"repld/apply"
	"repld/control"
	"repld/durable"
	"repld/health"
	"repld/journal"
	"repld/journal/catalog"
)

// Everything in a group's directory can be made again from the trees and from the
// peer, so what is found damaged there is set aside, and the group is opened anew
// without it: a primary scans its trees, and the standby gets a base, for which it
// takes what lies in its trees as it is. That is as after the loss of the state,
// only that the damaged file is kept for whoever wants to look at it, and a
// condition stands until somebody has removed it.
//
// What is kept of a database can be made again from what its primary still has, or from a
// seed: its gate tells which.

// damageable are the parts of a group's state that are set aside, beside those of
// [group.parts].
var damageable = []string{"catalog.db", "log", "apply.db", "history.db"}

// parts are all that may be set aside, as paths in the group's directory.
func (g *group) parts() []string {
	list := slices.Clone(damageable)
	for _, c := range g.conf.Databases {
		list = append(list, filepath.Join(spools, c.Name), filepath.Join("gates", c.Name, "gate"), filepath.Join("gates", c.Name, "gate.json"),
			filepath.Join("servers", c.Name, "stream"))
	}
	return list
}

// spools is the folder of what a standby has of its databases' streams.
const spools = "spools"

// isDamage reports whether err says that a part of the state is damaged.
func isDamage(err error) bool {
	var part *durable.DamageError
	return errors.As(err, &part) || errors.Is(err, catalog.ErrDamaged) || errors.Is(err, journal.ErrDamaged) || errors.Is(err, apply.ErrScratch)
}

// setAside moves what err says is damaged out of the way.
func (g *group) setAside(err error) {
	if errors.Is(err, catalog.ErrDamaged) {
		g.moveAside("catalog.db", err)
	}
	if errors.Is(err, journal.ErrDamaged) {
		g.moveAside("log", err)
		if _, err := g.state.group(g.name); err != nil {
			g.logger.Error("make the directory of the log", "group", g.name, "error", err)
		}
	}
	if errors.Is(err, apply.ErrScratch) {
		g.tellDamage("apply.db", err) // it was set aside where it was noticed
	}
	var part *durable.DamageError
	if errors.As(err, &part) {
		name, err := filepath.Rel(g.dir, part.Path)
		if err != nil || !slices.Contains(g.parts(), name) {
			g.logger.Error("a part of the state is damaged, and is not one that can be made again", "group", g.name, "error", part)
			return
		}
		g.moveAside(name, part.Err)
	}
}

func (g *group) moveAside(name string, cause error) {
	if slices.Contains(g.parts(), name+durable.Damaged) {
		g.logger.Error("a damaged part of the state can't be set aside: the name is that of another database", "group", g.name, "file", g.file(name))
		return
	}
	if _, err := durable.SetAside(g.file(name)); err != nil {
		g.logger.Error("set a damaged part of the state aside", "group", g.name, "error", err)
		return
	}
	g.tellDamage(name, cause)
}

func (g *group) tellDamage(name string, cause error) {
	g.event(control.EventSalvaged, map[string]string{"file": g.file(name) + durable.Damaged}, "%s was damaged and was set aside; it is made again: %v", name, cause)
}

// watchDamage shows what was set aside for as long as it is kept, until ctx ends.
func (g *group) watchDamage(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		parts := g.parts()
		for _, name := range parts {
			kept := g.file(name) + durable.Damaged
			if _, err := os.Lstat(kept); err != nil || slices.Contains(parts, name+durable.Damaged) {
				g.board.Resolve(health.StateDamaged, g.name, name)
				continue
			}
			made := "is made again from the trees"
			switch {
			case name == "history.db":
				made = "begins anew, without the barriers before"
			case filepath.Dir(name) != ".":
				made = "begins anew, with what the primary still has; if that isn't enough, the database needs a seed"
			}
			g.board.Raise(health.Condition{Code: health.StateDamaged, Group: g.name, Subject: name,
				Text: fmt.Sprintf("%s was damaged and %s; the damaged one is kept as %s", name, made, kept),
				Hint: "look after disk and memory of this machine; replctl verify proves the trees; then remove " + kept})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// guardState watches that the state directory is the one that this node has locked.
// Without it nothing that happens now would be known after a restart, and another
// daemon could run beside this one.
func (n *node) guardState(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if n.state.held() {
			continue
		}
		return control.Errorf(control.ExitFailed, "the state directory %s was removed or replaced while this node was running", n.state.path).
			WithHint("put it back if it was moved; else start repld again and pair the nodes anew, as its key is lost: the trees are taken as they lie there")
	}
}

// held reports whether the lock at the directory's path is the one that is held. A
// directory that can't be read at the moment counts as held.
func (s *stateDir) held() bool {
	own, err := s.lock.Stat()
	if err != nil {
		return true
	}
	found, err := os.Stat(s.file("lock"))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	return os.SameFile(own, found)
}
