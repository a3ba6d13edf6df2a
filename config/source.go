package config

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// source is where a configuration was read from.
type source struct {
	file  string
	where map[string]position // of values, by keys as [Diff] names them
}

type position struct{ line, column int }

// note remembers where the values of a mapping stand.
func (s *source) note(prefix string, f fields) {
	s.noteAt(strings.TrimSuffix(prefix, "."), f.at)
	for key := range f.m {
		if v, ok := f.get(key); ok {
			s.noteAt(prefix+key, at(v.value))
		}
	}
}

func (s *source) noteAt(key string, t *token.Token) {
	if t != nil && t.Position != nil {
		s.where[key] = position{t.Position.Line, t.Position.Column}
	}
}

// Wrong returns an error about a value of a configuration that was read: what
// can't be told before somebody looks at the machine. The key is as [Diff] names
// it ("state", "peer.address", "groups.sounz.trees.data.path") or "alerts.0.exec";
// of one that has its default, the position is that of the mapping around it.
func (c *Config) Wrong(key, hint, format string, args ...any) *Error {
	e := &Error{File: c.file, Text: fmt.Sprintf(format, args...), Hint: hint}
	for {
		if p, ok := c.where[key]; ok {
			e.Line, e.Column = p.line, p.column
			return e
		}
		i := strings.LastIndexByte(key, '.')
		if i < 0 {
			return e
		}
		key = key[:i]
	}
}
