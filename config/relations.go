package config

import (
	"strings"

	"github.com/goccy/go-yaml/token"
)

// placed is a directory of the configuration, for comparing it with the others.
type placed struct {
	what string // "the tree sounz/data"
	path string // absolute and clean
	at   *token.Token
	is   placeKind
}

type placeKind string

const (
	placeState   placeKind = "state"
	placeTree    placeKind = "tree"
	placeStaging placeKind = "staging"
	placeData    placeKind = "data" // of a database
)

func (r *reader) place(p placed) { r.paths = append(r.paths, p) }

// Inside reports whether path is dir or lies below it.
func Inside(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// relations refuses directories in one another: what is in a tree is replicated,
// and what is in the state or a staging directory is removed some day. Each pair
// is told once, where the later of the two stands.
func (r *reader) relations() {
	for i, p := range r.paths {
		for _, other := range r.paths[:i] {
			if p.path == other.path {
				r.wrong(p.at, "", "%s is %s, which is %s too: want a directory of its own", p.what, quote(p.path), other.what)
				continue
			}
			in, out := p, other
			if Inside(other.path, p.path) {
				in, out = other, p
			} else if !Inside(p.path, other.path) {
				continue
			}
			r.wrong(p.at, hintNested(in, out), "%s, %s, lies inside %s, %s: want neither inside the other",
				in.what, quote(in.path), out.what, quote(out.path))
		}
	}
}

func hintNested(in, out placed) string {
	switch {
	case in.is == placeTree && out.is == placeTree:
		return "the outer tree alone is enough, or choose directories beside each other"
	case in.is == placeStaging && out.is == placeTree:
		return "without staging a directory beside the tree is taken"
	}
	return ""
}
