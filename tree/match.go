package tree

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Matcher tells which paths of a tree a list of patterns means. It is a pure
// function, safe for concurrent use; the nil Matcher matches nothing.
type Matcher struct {
	names    map[string]struct{} // matched by any component of a path
	paths    map[string]struct{} // matched from the root
	anyDepth []string            // patterns for one component
	anchored []anchored
}

// anchored is a pattern that begins at the root.
type anchored struct {
	pattern string
	depth   int // components that it matches; 0 is any number
}

// NewMatcher returns a matcher of patterns in the syntax of doublestar
// (github.com/bmatcuk/doublestar/v4), relative to the tree's root:
//
//   - A pattern without a slash means that name in any directory: "*.tmp" is
//     "**/*.tmp", as with rsync.
//   - One with a slash begins at the root: "cache/*.db". A slash in front says the
//     same: "/cache" is that of the root only.
//   - What matches a directory matches everything below it. "cache/**" means
//     everything below cache, but not the directory itself.
//   - A slash at the end changes nothing: "cache/" is "cache", and means a file of
//     that name too.
//   - "*" and "?" match names that begin with a dot, and bytes that aren't UTF-8.
//
// A pattern that is malformed, can't match a path, or matches everything is refused
// with a [PatternError].
func NewMatcher(patterns []string) (*Matcher, error) {
	m := &Matcher{names: map[string]struct{}{}, paths: map[string]struct{}{}}
	for i, p := range patterns {
		if err := m.add(p); err != nil {
			return nil, &PatternError{Index: i, Pattern: p, Err: err}
		}
	}
	return m, nil
}

// PatternError says what is wrong with a pattern.
type PatternError struct {
	Index   int // in the list given to [NewMatcher]
	Pattern string
	Err     error
}

// Error implements error.
func (e *PatternError) Error() string { return fmt.Sprintf("pattern %q: %v", e.Pattern, e.Err) }

// Unwrap returns the cause.
func (e *PatternError) Unwrap() error { return e.Err }

func (m *Matcher) add(p string) error {
	rest, rooted := strings.CutPrefix(strings.TrimSuffix(p, "/"), "/")
	switch {
	case rest == "":
		return errors.New("it is empty; name what is meant, relative to the tree's root")
	case rest[0] == '!':
		return errors.New(`exceptions ("!") don't exist; write \! for a name that begins with it`)
	case !doublestar.ValidatePattern(rest):
		return errors.New("a bracket, a brace or a backslash is not closed or stands alone")
	case strings.Trim(rest, "*/") == "":
		return errors.New("it matches everything; leave the tree out instead")
	}
	for name := range strings.SplitSeq(rest, "/") {
		switch name {
		case "":
			return errors.New("it has an empty name between two slashes")
		case ".", "..":
			return fmt.Errorf("it has the name %q, which no path has", name)
		}
	}
	plain := !strings.ContainsAny(rest, `*?[{\`)
	if !rooted && !strings.Contains(rest, "/") {
		if plain {
			m.names[rest] = struct{}{}
		} else {
			m.anyDepth = append(m.anyDepth, rest)
		}
		return nil
	}
	if plain {
		m.paths[rest] = struct{}{}
		return nil
	}
	// "a/**" would match a as well.
	if strings.HasSuffix(rest, "/**") {
		rest += "/*"
	}
	a := anchored{pattern: rest}
	// Braces may hold slashes.
	if !strings.Contains(rest, "**") && !strings.Contains(rest, "{") {
		a.depth = strings.Count(rest, "/") + 1
	}
	m.anchored = append(m.anchored, a)
	return nil
}

// Match reports whether path, or a directory on the way to it, is meant. The root
// ("") never is.
func (m *Matcher) Match(path string) bool {
	if m == nil || path == "" {
		return false
	}
	depth, begin := 0, 0
	for end := 0; end <= len(path); end++ {
		if end < len(path) && path[end] != '/' {
			continue
		}
		depth++
		if m.one(path[:end], path[begin:end], depth) {
			return true
		}
		begin = end + 1
	}
	return false
}

// one reports whether path itself is meant, whose last name is name.
func (m *Matcher) one(path, name string, depth int) bool {
	if _, ok := m.names[name]; ok {
		return true
	}
	if _, ok := m.paths[path]; ok {
		return true
	}
	for _, p := range m.anyDepth {
		if doublestar.MatchUnvalidated(p, name) {
			return true
		}
	}
	for _, a := range m.anchored {
		if (a.depth == 0 || a.depth == depth) && doublestar.MatchUnvalidated(a.pattern, path) {
			return true
		}
	}
	return false
}

// Skip reports whether path isn't part of the tree: repld's own directory is not, nor
// is what m matches.
func (m *Matcher) Skip(path string) bool { return IsOwn(path) || m.Match(path) }
