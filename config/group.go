package config

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/goccy/go-yaml/ast"
)

func (r *reader) groups(v field) []Group {
	items := r.list(v)
	if len(items) == 0 && shapeOf(v.value) == isList {
		r.wrong(at(v.value), "", "groups is empty, want at least one group")
	}
	var all []Group
	names := newNames("group")
	for _, item := range items {
		g := Group{GroupLive: DefaultGroup()}
		if f, ok := r.mapping(item, groupLevel, "a group", ""); ok {
			r.name(f, "a group", &g.Name, names)
			r.note("groups."+g.Name+".", f)
			r.trees(f, &g)
			r.databases(f, &g)
			r.groupLive(f, &g.GroupLive)
		}
		all = append(all, g)
	}
	return all
}

// names are those that were seen, with their lines.
type names struct {
	of   string
	line map[string]int
}

func newNames(of string) names { return names{of, map[string]int{}} }

// name reads the name of a group or tree, which nothing else may have.
func (r *reader) name(f fields, in string, into *string, seen names) {
	v, ok := r.need(f, "name", in, "a name")
	if !ok || !r.text(v, into, checkName) {
		return
	}
	if line, taken := seen.line[*into]; taken {
		r.wrong(at(v.value), "", "there is another %s %s in line %d, want a name of its own", seen.of, quote(*into), line)
		return
	}
	seen.line[*into] = at(v.value).Position.Line
}

func (r *reader) trees(f fields, g *Group) {
	v, ok := r.need(f, "trees", "a group", "a list of trees")
	if !ok {
		return
	}
	items := r.list(v)
	if len(items) == 0 && shapeOf(v.value) == isList {
		r.wrong(at(v.value), "", "trees is empty, want at least one tree")
	}
	names := newNames("tree")
	for _, item := range items {
		t := Tree{Watch: WatchAuto}
		if f, ok := r.mapping(item, treeLevel, "a tree", ""); ok {
			r.name(f, "a tree", &t.Name, names)
			r.note("groups."+g.Name+".trees."+t.Name+".", f)
			r.tree(f, g.Name, &t)
			r.sameWatch(f, g, &t)
		}
		g.Trees = append(g.Trees, t)
	}
}

// sameWatch refuses different ways to watch the trees of one group: they are cut at
// one instant, which one watcher has to find.
func (r *reader) sameWatch(f fields, g *Group, t *Tree) {
	if t.Watch == WatchAuto {
		return
	}
	for _, other := range g.Trees {
		if other.Watch == WatchAuto || other.Watch == t.Watch {
			continue
		}
		if v, ok := f.get("watch"); ok {
			r.wrong(at(v.value), "", "the tree %s is watched by %s, %s of the same group by %s: want one way for a group", t.Name, t.Watch, other.Name, other.Watch)
		}
		return
	}
}

func (r *reader) tree(f fields, group string, t *Tree) {
	name := cmp.Or(t.Name, "without a name")
	if group != "" {
		name = group + "/" + name
	}
	if v, ok := r.need(f, "path", "a tree", "the absolute path of a directory"); ok && r.text(v, &t.Path, checkPath) {
		r.place(placed{what: "the tree " + name, path: t.Path, at: at(v.value), is: placeTree})
	}
	if v, ok := f.get("staging"); ok && r.text(v, &t.Staging, checkPath) {
		r.place(placed{what: "the staging directory of " + name, path: t.Staging, at: at(v.value), is: placeStaging})
	}
	if v, ok := f.get("exclude"); ok {
		t.Exclude = r.texts(v, checkPattern)
	}
	if v, ok := f.get("append_only"); ok {
		t.AppendOnly = r.texts(v, checkPattern)
	}
	maybe(r, f, "watch", &t.Watch, oneOf(WatchAuto, WatchFanotify, WatchInotify, WatchPoll))
}

// checkPattern accepts what tree.NewMatcher does, so that what it would refuse has
// a line and a column.
func checkPattern(s string) (string, error) {
	e := &valueError{found: s, want: "a doublestar pattern relative to the tree, such as cache/** or *.tmp"}
	rest := strings.TrimPrefix(strings.TrimSuffix(s, "/"), "/")
	switch {
	case rest == "":
	case rest[0] == '!':
		e.hint = `exceptions ("!") don't exist; a name that begins with it is written \!`
	case !doublestar.ValidatePattern(rest):
		e.hint = "a bracket, a brace or a backslash is not closed or stands alone"
	case strings.Trim(rest, "*/") == "":
		e.hint = "it matches everything; leave the tree out instead"
	case strings.Contains(rest, "//"), strings.HasPrefix(rest, "/"), strings.HasSuffix(rest, "/"), strings.ContainsRune(rest, 0):
		e.hint = "it has an empty name or a zero byte, which no path has"
	case hasDots(rest):
		e.hint = `"." and ".." are in no path`
	default:
		return s, nil
	}
	return "", e
}

// groupLive reads the sections of a group that may change while it runs.
func (r *reader) groupLive(f fields, g *GroupLive) {
	if s, ok := r.section(f, "barrier", barrierLevel); ok {
		r.barrier(s, &g.Barrier)
	}
	if s, ok := r.section(f, "bandwidth", bandwidthLevel); ok {
		maybe(r, s, "limit", &g.Bandwidth.Limit, ParseRate)
		if v, ok := s.get("windows"); ok {
			g.Bandwidth.Windows = r.windows(v)
		}
	}
	if s, ok := r.section(f, "journal", journalLevel); ok {
		maybe(r, s, "limit", &g.Journal.Limit, ParseSize)
	}
	if s, ok := r.section(f, "history", historyLevel); ok {
		maybe(r, s, "keep", &g.History.Keep, parseKeep)
		maybe(r, s, "limit", &g.History.Limit, ParseSize)
		if v, ok := s.get("every"); ok {
			g.History.Every = r.thinning(v)
		}
	}
	if s, ok := r.section(f, "guard", guardLevel); ok {
		maybe(r, s, "changed", &g.Guard.Changed, ParsePercent)
	}
	if s, ok := r.section(f, "rescan", rescanLevel); ok {
		maybe(r, s, "every", &g.Rescan.Every, ParseDuration)
	}
}

// section reads a mapping inside a group.
func (r *reader) section(f fields, key string, l *level) (fields, bool) {
	v, ok := f.get(key)
	if !ok {
		return fields{}, false
	}
	return r.mapping(v.value, l, key, key+".")
}

func (r *reader) barrier(f fields, b *Barrier) {
	maybe(r, f, "every", &b.Every, ParseDuration)
	maybe(r, f, "late_after", &b.LateAfter, ParseDuration)
	if b.LateAfter <= b.Every {
		last := f.m["late_after"]
		if last.key == nil {
			last = f.m["every"]
		}
		if last.key != nil {
			r.wrong(last.key, "", "barrier.late_after is %s and barrier.every is %s: want late_after to be longer",
				short(b.LateAfter), short(b.Every))
		}
	}
	r.freeze(f, &b.Freeze)
}

func (r *reader) windows(v field) []Window {
	var all []Window
	for _, item := range r.list(v) {
		f, ok := r.mapping(item, windowLevel, "a window", "")
		if !ok {
			continue
		}
		var w Window
		from, okFrom := r.need(f, "from", "a window", wantTime)
		to, okTo := r.need(f, "to", "a window", wantTime)
		limit, okLimit := r.need(f, "limit", "a window", wantRate)
		okFrom = okFrom && value(r, from, &w.From, ParseTimeOfDay)
		okTo = okTo && value(r, to, &w.To, ParseTimeOfDay)
		okLimit = okLimit && value(r, limit, &w.Limit, ParseRate)
		if !okFrom || !okTo || !okLimit {
			continue
		}
		if w.From == midnight {
			w.From = 0
		}
		if w.From == w.To || w.From == 0 && w.To == midnight {
			r.wrong(at(from.value), "bandwidth.limit is for the whole day", "found a window from %v to %v, want two different times", w.From, w.To)
			continue
		}
		for _, other := range all {
			if w.overlaps(other) {
				r.wrong(f.at, "", "the window from %v to %v overlaps the one from %v to %v", w.From, w.To, other.From, other.To)
			}
		}
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b Window) int { return cmp.Compare(a.From, b.From) })
	return all
}

// parseKeep reads an age, or "off" or 0 for none.
func parseKeep(s string) (time.Duration, error) {
	if s == "off" || s == "0" {
		return 0, nil
	}
	return durationOr("off", s)
}

func parseInterval(s string) (time.Duration, error) {
	if s == "all" {
		return 0, nil
	}
	return durationOr("all", s)
}

// durationOr reads a duration; an error says that the word would do, too.
func durationOr(word, s string) (time.Duration, error) {
	d, err := ParseDuration(s)
	var e *valueError
	if errors.As(err, &e) {
		e.want += ", or " + word
	}
	return d, err
}

// thinning reads {age: interval}, in any order.
func (r *reader) thinning(v field) []Thin {
	if !r.isShape(v.value, v.label, isMapping) {
		return nil
	}
	type step struct {
		Thin
		key ast.Node
	}
	var steps []step
	for _, pair := range pairs(v.value) {
		s := step{key: pair.Key}
		okAge := value(r, field{label: v.label, value: pair.Key}, &s.Until, ParseDuration)
		interval := field{label: v.label + "." + pair.Key.GetToken().Value, value: pair.Value}
		if okInterval := value(r, interval, &s.Interval, parseInterval); okAge && okInterval {
			steps = append(steps, s)
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.Until, b.Until) })
	all := make([]Thin, len(steps))
	for i, s := range steps {
		all[i] = s.Thin
		if i == 0 {
			continue
		}
		switch before := steps[i-1]; {
		case s.Until == before.Until:
			r.wrong(at(s.key), "", "%s says twice what holds up to %s", v.label, short(s.Until))
		case s.Interval < before.Interval:
			r.wrong(at(s.key), "", "%s keeps more up to %s than up to %s: want longer intervals for older barriers",
				v.label, short(s.Until), short(before.Until))
		}
	}
	return all
}
