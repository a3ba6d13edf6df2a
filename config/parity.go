package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/goccy/go-yaml/ast"
)

// Parity is what should be the same on both nodes beside what is replicated, and beside
// what is compared anyhow (kernel, packages, database parameters, size of the machine).
type Parity struct {
	Files    []string   // doublestar patterns of absolute paths: compared by digest
	Commands [][]string // programs with their arguments: compared by output
	// Settings are names of further settings of the databases' servers; one that an engine
	// doesn't have is left out there.
	Settings []string
}

// The most patterns and commands that are compared.
const (
	maxParityFiles    = 64
	maxParityCommands = 32
	maxParitySettings = 256
)

var parityLevel = &level{"parity", []string{"files", "commands", "settings"}}

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
	if v, ok := f.get("settings"); ok {
		p.Settings = r.texts(v, checkSetting)
		r.most(v, len(p.Settings), maxParitySettings)
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

// secretSettings are told to nobody: their values hold or may hold a password.
var secretSettings = []string{"requirepass", "masterauth", "primaryauth", "tls-key-file-pass", "tls-client-key-file-pass", "primary_conninfo", "ssl_passphrase_command"}

// checkSetting accepts the name of a server's setting.
func checkSetting(s string) (string, error) {
	odd := strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.')
	})
	switch {
	case s == "" || odd:
		return "", &valueError{found: s, want: `the name of a setting such as "max_locks_per_transaction"`}
	case slices.Contains(secretSettings, strings.ToLower(s)):
		return "", fmt.Errorf("found %s, which may hold a password: it is compared by nobody", quote(s))
	}
	return s, nil
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
