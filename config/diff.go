package config

import (
	"fmt"
	"reflect"
	"slices"
)

// Changes are the keys whose values differ between two configurations, as
// "journal" or "groups.sounz.bandwidth", in the order of the old configuration.
type Changes struct {
	Live    []string // can be reloaded: parts of [Live] and [GroupLive]
	Restart []string // hold from the next start on
}

// None reports that nothing differs.
func (c Changes) None() bool { return len(c.Live) == 0 && len(c.Restart) == 0 }

// Diff compares two configurations. The order of groups and trees doesn't count.
func Diff(before, after *Config) Changes {
	var c Changes
	c.restart("node", before.Node, after.Node)
	c.restart("designated", before.Designated, after.Designated)
	c.restart("listen", before.Listen, after.Listen)
	c.restart("state", before.State, after.State)
	c.restart("control", before.Control, after.Control)
	c.restart("http", before.HTTP, after.HTTP)
	c.restart("peer", before.Peer, after.Peer)
	c.restart("start_alone", before.StartAlone, after.StartAlone)
	c.restart("coordination", before.Coordination, after.Coordination)
	c.live("disk_reserve", before.DiskReserve, after.DiskReserve)
	c.live("log_level", before.LogLevel, after.LogLevel)
	c.live("hooks", before.Hooks, after.Hooks)
	c.live("alerts", before.Alerts, after.Alerts)
	c.live("parity", before.Parity, after.Parity)
	match(before.Groups, after.Groups, func(g Group) string { return g.Name }, func(name string, was, is *Group) {
		c.group("groups."+name, was, is)
	})
	return c
}

func (c *Changes) group(label string, was, is *Group) {
	if was == nil || is == nil {
		c.Restart = append(c.Restart, addedOrGone(label, was == nil))
		return
	}
	match(was.Trees, is.Trees, func(t Tree) string { return t.Name }, func(name string, was, is *Tree) {
		c.tree(label+".trees."+name, was, is)
	})
	c.restart(label+".databases", was.Databases, is.Databases)
	live := is.Barrier
	live.Freeze = was.Barrier.Freeze
	c.live(label+".barrier", was.Barrier, live)
	c.restart(label+".barrier.cgroup", was.Barrier.Freeze, is.Barrier.Freeze)
	c.live(label+".bandwidth", was.Bandwidth, is.Bandwidth)
	c.live(label+".journal", was.Journal, is.Journal)
	c.live(label+".history", was.History, is.History)
	c.live(label+".guard", was.Guard, is.Guard)
	c.live(label+".rescan", was.Rescan, is.Rescan)
}

func (c *Changes) tree(label string, was, is *Tree) {
	if was == nil || is == nil {
		c.Restart = append(c.Restart, addedOrGone(label, was == nil))
		return
	}
	c.restart(label+".path", was.Path, is.Path)
	c.restart(label+".exclude", was.Exclude, is.Exclude)
	c.restart(label+".append_only", was.AppendOnly, is.AppendOnly)
	c.restart(label+".staging", was.Staging, is.Staging)
	c.restart(label+".watch", was.Watch, is.Watch)
}

func addedOrGone(label string, added bool) string {
	if added {
		return fmt.Sprintf("%s (added)", label)
	}
	return fmt.Sprintf("%s (removed)", label)
}

func (c *Changes) live(key string, was, is any) {
	if !reflect.DeepEqual(was, is) {
		c.Live = append(c.Live, key)
	}
}

func (c *Changes) restart(key string, was, is any) {
	if !reflect.DeepEqual(was, is) {
		c.Restart = append(c.Restart, key)
	}
}

// match calls each for what has one name in both lists; what is in one only has
// nil for the other.
func match[T any](before, after []T, name func(T) string, each func(name string, was, is *T)) {
	for i := range before {
		n := name(before[i])
		j := slices.IndexFunc(after, func(t T) bool { return name(t) == n })
		if j < 0 {
			each(n, &before[i], nil)
			continue
		}
		each(n, &before[i], &after[j])
	}
	for j := range after {
		n := name(after[j])
		if !slices.ContainsFunc(before, func(t T) bool { return name(t) == n }) {
			each(n, nil, &after[j])
		}
	}
}
