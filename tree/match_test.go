package tree

import (
	"errors"
	"strings"
	"testing"
)

func TestMatcher(t *testing.T) {
	for _, c := range []struct {
		patterns string // separated by blanks
		yes, no  string // paths, separated by blanks
	}{
		{"cache/**", "cache/a cache/a/b cache/.hidden", "cache cached/a a/cache/b"},
		{"cache", "cache cache/a a/cache a/b/cache/c", "cached acache a/cached"},
		{"cache/", "cache cache/a a/cache", "cached"},
		{"/cache", "cache cache/a", "a/cache a/cache/b"},
		{"*.tmp", "a.tmp .tmp a/b.tmp a.tmp/below a/b.tmp/c", "a.tmpx a/tmp"},
		{"a/*.tmp", "a/x.tmp a/x.tmp/y", "x.tmp a/b/x.tmp b/a/x.tmp"},
		{"a/**/*.tmp", "a/x.tmp a/b/c/x.tmp", "x.tmp b/a/x.tmp"},
		{"**/node_modules/**", "node_modules/a x/y/node_modules/b/c", "node_modules x/node_modules"},
		{"**/a/b", "a/b x/a/b x/y/a/b/c", "a b x/b"},
		{"{a,b}.log", "a.log x/b.log", "c.log"},
		{"{a/b,c}", "a/b c a/b/x c/y", "x/c a"},
		{"log/[0-9]*", "log/1 log/9x", "log/x log"},
		{`\*`, "* a/*", "a a/b"},
		{"a?c", "abc a\xffc x/a\xc3\xa9c", "ac a/c"},
		{"\xff*", "\xff \xffx a/\xff\n", "a"},
		{"*.bak cache/** /top", "x.bak cache/y top", "cache a/top"},
		{"", "", "a a/b"},
	} {
		m, err := NewMatcher(strings.Fields(c.patterns))
		if err != nil {
			t.Errorf("%q: %v", c.patterns, err)
			continue
		}
		for _, path := range strings.Split(c.yes, " ") {
			if path != "" && !m.Match(path) {
				t.Errorf("%q does not match %q", c.patterns, path)
			}
		}
		for _, path := range strings.Split(c.no, " ") {
			if m.Match(path) {
				t.Errorf("%q matches %q", c.patterns, path)
			}
		}
		if m.Match("") {
			t.Errorf("%q matches the root", c.patterns)
		}
	}
	if (*Matcher)(nil).Match("a") {
		t.Error("no matcher matches")
	}
}

func TestMatcherRefuses(t *testing.T) {
	for _, p := range []string{"", "/", "**", "*", "**/*", "/**", "a//b", "a/../b", "./a", "[a", "{a", `a\`, "!a", "//a"} {
		m, err := NewMatcher([]string{"fine", p})
		var bad *PatternError
		if m != nil || !errors.As(err, &bad) || bad.Index != 1 || bad.Pattern != p {
			t.Errorf("%q: %v", p, err)
		}
	}
}

// FuzzMatcher: no pattern and no path makes it panic, and what is below something
// that matches matches too.
func FuzzMatcher(f *testing.F) {
	f.Add("cache/**", "cache/a/b")
	f.Add("{a,b/c}*", "b/c\xff")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		m, err := NewMatcher([]string{pattern})
		if err != nil || checkPath(path) != nil || path == "" {
			return
		}
		if m.Match(path) && !m.Match(path+"/below") {
			t.Errorf("%q matches %q but not what is below", pattern, path)
		}
	})
}

func BenchmarkMatcher(b *testing.B) {
	m, err := NewMatcher([]string{"cache/**", "*.tmp", "node_modules", "var/**/*.lock", "/swap"})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		m.Match("srv/www/site/images/2026/11/picture.jpg")
	}
}
