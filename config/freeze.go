package config

import (
	"slices"
	"strings"
	"time"
)

// Freeze is how an application is made to stand still for a barrier.
type Freeze struct {
	Cgroup string        // path of its control group in the hierarchy of version 2; "" = never
	Max    time.Duration // for how long at most
	First  bool          // for every barrier, not only where it can't be cut otherwise
}

// Words of barrier.quiesce.
const (
	quiesceOptimistic = "optimistic"
	quiesceCgroup     = "cgroup"
)

// The bounds of barrier.freeze_max.
const (
	freezeLeast = time.Millisecond
	freezeMost  = 10 * time.Second
)

// freeze reads the ways to a barrier, in the order in which they are tried, and what
// the last of them needs.
func (r *reader) freeze(f fields, z *Freeze) {
	used := false
	if v, ok := f.get("quiesce"); ok {
		used = r.quiesce(v, z)
	}
	group, named := f.get("cgroup")
	if named && r.text(group, &z.Cgroup, checkCgroup) && !used {
		r.wrong(at(group.value), "add quiesce: [optimistic, cgroup]", "%s: %s is frozen only if barrier.quiesce has cgroup", group.label, quote(z.Cgroup))
	}
	if used && !named {
		if v, ok := f.get("quiesce"); ok {
			r.wrong(at(v.value), "", "%s has cgroup, and barrier.cgroup is missing: want the control group of the application, such as /system.slice/sounz.service", v.label)
		}
	}
	limit, limited := f.get("freeze_max")
	switch {
	case limited && !used:
		r.wrong(at(limit.value), "", "%s: it holds only if barrier.quiesce has cgroup", limit.label)
	case limited && value(r, limit, &z.Max, ParseDuration) && (z.Max < freezeLeast || z.Max > freezeMost):
		r.wrong(at(limit.value), "", "%s: found %s, want %v to %v", limit.label, short(z.Max), freezeLeast, freezeMost)
	}
}

// quiesce reads the list of ways; it reports whether cgroup is among them.
func (r *reader) quiesce(v field, z *Freeze) (cgroup bool) {
	items := r.list(v)
	if len(items) == 0 && shapeOf(v.value) == isList {
		r.wrong(at(v.value), "", "%s is empty, want [optimistic], [optimistic, cgroup] or [cgroup]", v.label)
		return false
	}
	var words []string
	for _, item := range items {
		var word string
		if !r.text(field{label: v.label, value: item}, &word, oneOf(quiesceOptimistic, quiesceCgroup)) {
			continue
		}
		if slices.Contains(words, word) || word == quiesceOptimistic && len(words) > 0 {
			r.wrong(at(item), "", "%s: found %s behind %s, want [optimistic], [optimistic, cgroup] or [cgroup]", v.label, word, strings.Join(words, ", "))
			continue
		}
		words = append(words, word)
	}
	z.First = len(words) > 0 && words[0] == quiesceCgroup
	return slices.Contains(words, quiesceCgroup)
}

// checkCgroup accepts the path of a control group but the root.
func checkCgroup(s string) (string, error) {
	path, err := checkPath(s)
	if err != nil || path == "/" || strings.HasPrefix(path, "/sys/") {
		return "", &valueError{found: s, want: "the path of a control group as systemd-cgls and /proc/PID/cgroup show it, such as /system.slice/sounz.service"}
	}
	return path, nil
}
