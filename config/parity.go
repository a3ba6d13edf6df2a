package config

import (
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/goccy/go-yaml/ast"
)

// Parity is what should be the same on both nodes beside what is replicated, and beside
// what is compared anyhow (kernel, packages, database parameters, size of the machine).
type Parity struct {
	Files    []string   // doublestar patterns of absolute paths: compared by digest
	Commands [][]string // programs with their arguments: compared by output
}

// The most patterns and commands that are compared.
const (
	maxParityFiles    = 64
	maxParityCommands = 32
)

var parityLevel = &level{"parity", []string{"files", "commands"}}

func (r *reader) parity(v field) Parity {
	var p Parity
	f, ok := r.mapping(v.value, parityLevel, v.label, "parity.")
	if !ok {
		return p
	}
	r.note("parity.", f)
	if v, ok := f.get("files"); ok {
		p.Files = r.texts(v, checkFiles)
		r.most(v, len(p.Files), maxParityFiles)
	}
	commands, ok := f.get("commands")
	if !ok {
		return p
	}
	for _, item := range r.list(commands) {
		if shapeOf(item) == isScalar {
			r.wrong(at(item), "write it as a list: [php, -v]", "%s: found %s, want a program with its arguments", commands.label, quote(content(item)))
			continue
		}
		words := r.texts(field{label: commands.label, value: item}, checkArgument)
		if list, ok := item.(*ast.SequenceNode); !ok || len(words) != len(list.Values) {
			continue
		}
		if len(words) == 0 || words[0] == "" || strings.Contains(words[0], "/") && !strings.HasPrefix(words[0], "/") {
			found := "an empty list"
			if len(words) > 0 {
				found = quote(words[0])
			}
			r.wrong(at(item), "", "%s: found %s, want a program, by its name or its absolute path", commands.label, found)
			continue
		}
		p.Commands = append(p.Commands, words)
	}
	r.most(commands, len(p.Commands), maxParityCommands)
	return p
}

func (r *reader) most(v field, found, most int) {
	if found > most {
		r.wrong(at(v.value), "", "%s: found %d, want at most %d", v.label, found, most)
	}
}

// checkFiles accepts patterns of absolute paths that don't begin with a wildcard: those
// would read the whole machine.
func checkFiles(s string) (string, error) {
	switch {
	case !strings.HasPrefix(s, "/") || hasControl(s) || hasDots(s) || !doublestar.ValidatePattern(s):
		return "", &valueError{found: s, want: `a pattern of absolute paths such as "/etc/apache2/**"`}
	case strings.ContainsAny(strings.SplitN(s, "/", 3)[1], `*?[{\`) || s == "/":
		return "", &valueError{found: s, want: fmt.Sprintf("a pattern below a directory, such as %q", "/etc/apache2/**")}
	}
	return s, nil
}
