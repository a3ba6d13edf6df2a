package binlog

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// mysqlID names a transaction of MySQL: "UUID:NUMBER", or "UUID:TAG:NUMBER" since 8.3.
type mysqlID struct {
	source string // "UUID" or "UUID:TAG"
	number uint64
}

func (t mysqlID) String() string { return t.source + ":" + strconv.FormatUint(t.number, 10) }

// span is a range of numbers, with both ends.
type span struct{ first, last uint64 }

// mysqlSet has the numbers of each source, as ranges that ascend and don't touch.
type mysqlSet map[string][]span

// parseSet reads a set such as "UUID:1-5:7:tag:1-3,UUID:1".
func parseSet(s string) (mysqlSet, error) {
	set := make(mysqlSet)
	for part := range strings.SplitSeq(s, ",") {
		part = strings.ToLower(strings.TrimSpace(part))
		if part == "" {
			continue
		}
		f := strings.Split(part, ":")
		if _, err := parseUUID(f[0]); err != nil {
			return nil, err
		}
		source := f[0]
		for _, text := range f[1:] {
			text = strings.TrimSpace(text)
			if text != "" && (text[0] < '0' || text[0] > '9') { // a tag begins with a letter
				source = f[0] + ":" + text
				continue
			}
			first, last, ranged := strings.Cut(text, "-")
			if !ranged {
				last = first
			}
			a, err1 := strconv.ParseUint(first, 10, 63)
			b, err2 := strconv.ParseUint(last, 10, 63)
			if err := cmp.Or(err1, err2); err != nil || a == 0 || a > b {
				return nil, fmt.Errorf("%q in a set of GTIDs is no range of numbers", text)
			}
			set[source] = append(set[source], span{a, b})
		}
	}
	for source, list := range set {
		set[source] = merged(list)
	}
	return set, nil
}

// parseUUID reads 16 bytes as they are written in a set.
func parseUUID(s string) ([]byte, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		return nil, fmt.Errorf("%q is no UUID of a server", s)
	}
	return b, nil
}

func showUUID(b []byte) string {
	t := hex.EncodeToString(b)
	return t[:8] + "-" + t[8:12] + "-" + t[12:16] + "-" + t[16:20] + "-" + t[20:]
}

// merged sorts ranges and makes one of those that touch.
func merged(list []span) []span {
	slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	out := list[:0]
	for _, r := range list {
		if n := len(out); n > 0 && r.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, r.last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// String lists the set in the order of its sources.
func (s mysqlSet) String() string {
	var list []string
	for _, source := range slices.Sorted(maps.Keys(s)) {
		text := source
		for _, r := range s[source] {
			text += ":" + strconv.FormatUint(r.first, 10)
			if r.last > r.first {
				text += "-" + strconv.FormatUint(r.last, 10)
			}
		}
		list = append(list, text)
	}
	return strings.Join(list, ",")
}

func (s mysqlSet) empty() bool { return len(s) == 0 }

func (s mysqlSet) equal(other history) bool {
	t, ok := other.(mysqlSet)
	return ok && maps.EqualFunc(s, t, slices.Equal)
}

// within reports whether each of the set's ranges lies in one of the other's.
func (s mysqlSet) within(other history) bool {
	t, ok := other.(mysqlSet)
	if !ok {
		return false
	}
	for source, list := range s {
		for _, r := range list {
			if !slices.ContainsFunc(t[source], func(o span) bool { return o.first <= r.first && r.last <= o.last }) {
				return false
			}
		}
	}
	return true
}

func (s mysqlSet) has(t transaction) bool {
	id, ok := t.(mysqlID)
	return ok && slices.ContainsFunc(s[id.source], func(r span) bool { return r.first <= id.number && id.number <= r.last })
}

func (s mysqlSet) with(t transaction) history {
	out := maps.Clone(s)
	if out == nil {
		out = make(mysqlSet)
	}
	if id, ok := t.(mysqlID); ok {
		out[id.source] = merged(append(slices.Clone(s[id.source]), span{id.number, id.number}))
	}
	return out
}

func (s mysqlSet) joined(other history) history {
	out := maps.Clone(s)
	if out == nil {
		out = make(mysqlSet)
	}
	t, _ := other.(mysqlSet)
	for source, list := range t {
		out[source] = merged(append(slices.Clone(s[source]), list...))
	}
	return out
}

func (s mysqlSet) lacking(other history) history {
	t, _ := other.(mysqlSet)
	out := make(mysqlSet)
	for source, list := range s {
		var left []span
		for _, r := range list {
			left = append(left, without(r, t[source])...)
		}
		if len(left) > 0 {
			out[source] = left
		}
	}
	return out
}

// without returns what remains of a range when others, which ascend, are taken from it.
func without(r span, others []span) (left []span) {
	for _, o := range others {
		if o.last < r.first || o.first > r.last {
			continue
		}
		if o.first > r.first {
			left = append(left, span{r.first, o.first - 1})
		}
		if o.last >= r.last {
			return left
		}
		r.first = o.last + 1
	}
	return append(left, r)
}
