package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// reader turns nodes into values and gathers what is wrong with them. After an
// error it goes on with the default, so that one run tells everything.
type reader struct {
	source
	errs  Errors
	paths []placed
}

// wrong notes an error at a token; nil is the file as a whole.
func (r *reader) wrong(t *token.Token, hint, format string, args ...any) {
	e := &Error{File: r.file, Text: fmt.Sprintf(format, args...), Hint: hint}
	if t != nil && t.Position != nil {
		e.Line, e.Column = t.Position.Line, t.Position.Column
	}
	r.errs = append(r.errs, e)
}

// at returns the first token of a node.
func at(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

// shape is a kind of node.
type shape string

const (
	isScalar  shape = "a single value"
	isMapping shape = "a mapping (key: value)"
	isList    shape = "a list"
	isNothing shape = "nothing"
)

func shapeOf(n ast.Node) shape {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return isMapping
	case *ast.SequenceNode:
		return isList
	case *ast.NullNode:
		return isNothing
	}
	return isScalar
}

// isShape notes an error if n is of another shape.
func (r *reader) isShape(n ast.Node, label string, want shape) bool {
	found := shapeOf(n)
	if found == want {
		return true
	}
	r.wrong(at(n), "", "%s: found %s, want %s", label, found, want)
	return false
}

// field is a key of a mapping with its value.
type field struct {
	key   *token.Token
	label string // in messages: "barrier.every"
	value ast.Node
}

// fields are the keys of a mapping.
type fields struct {
	at *token.Token // where what is missing would have been
	m  map[string]field
}

// mapping reads the keys of n. Those that the level doesn't have are errors and
// left out; so are values without content. Labels begin with prefix.
func (r *reader) mapping(n ast.Node, l *level, label, prefix string) (fields, bool) {
	if !r.isShape(n, label, isMapping) {
		return fields{}, false
	}
	f := fields{at: at(n), m: map[string]field{}}
	for _, pair := range pairs(n) {
		key := pair.Key.GetToken()
		name := key.Value
		v := field{key: key, label: prefix + name, value: pair.Value}
		if first, ok := f.m[name]; ok {
			r.wrong(key, "", "%s stands here a second time, first in line %d", v.label, first.key.Position.Line)
			continue
		}
		f.m[name] = v // even if refused, so that a second one is told
		switch {
		case slices.Contains(l.keys, name):
			if shapeOf(v.value) == isNothing {
				r.wrong(key, "", "%s has no value", v.label)
			}
		case r.refuseLater(l, v, name):
		default:
			r.wrong(key, suggest(name, l), "unknown key %q in %s", name, l.what)
		}
	}
	return f, true
}

// refuseLater answers for a key that a later version will have.
func (r *reader) refuseLater(l *level, v field, name string) bool {
	for _, k := range later {
		if k.at == l && k.key == name {
			r.wrong(v.key, "", "%s: %s", v.label, notYet)
			if shapeOf(v.value) != isNothing {
				r.isShape(v.value, v.label, k.is)
			}
			return true
		}
	}
	return false
}

func pairs(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

// get returns a field that has a value.
func (f fields) get(key string) (field, bool) {
	v, ok := f.m[key]
	if ok && shapeOf(v.value) == isNothing {
		return field{}, false
	}
	return v, ok
}

// need is get for keys that must be there.
func (r *reader) need(f fields, key, in, want string) (field, bool) {
	if _, ok := f.m[key]; !ok {
		r.wrong(f.at, "", "%s is missing in %s: want %s", key, in, want)
	}
	return f.get(key)
}

// list returns the items of a list.
func (r *reader) list(v field) []ast.Node {
	if !r.isShape(v.value, v.label, isList) {
		return nil
	}
	list, ok := v.value.(*ast.SequenceNode)
	if !ok {
		return nil
	}
	return list.Values
}

// value reads a scalar with parse into the place, which stays as it is after an
// error.
func value[T any](r *reader, v field, into *T, parse func(string) (T, error)) bool {
	if !r.isShape(v.value, v.label, isScalar) {
		return false
	}
	parsed, err := parse(content(v.value))
	if err != nil {
		var e *valueError
		hint := ""
		if errors.As(err, &e) {
			hint = e.hint
		}
		r.wrong(at(v.value), hint, "%s: %v", v.label, err)
		return false
	}
	*into = parsed
	return true
}

// maybe is value for a key that may be absent.
func maybe[T any](r *reader, f fields, key string, into *T, parse func(string) (T, error)) {
	if v, ok := f.get(key); ok {
		value(r, v, into, parse)
	}
}

// text reads a text with check, as value does. Numbers and truth values are
// refused: what YAML makes of 0123 or of off is rarely what was meant.
func (r *reader) text(v field, into *string, check func(string) (string, error)) bool {
	switch v.value.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		return value(r, v, into, check)
	}
	if r.isShape(v.value, v.label, isScalar) {
		r.wrong(at(v.value), "put it in quotes if it is meant", "%s: found %s, which is no text to YAML", v.label, content(v.value))
	}
	return false
}

// texts reads a list of texts.
func (r *reader) texts(v field, check func(string) (string, error)) []string {
	var all []string
	for _, item := range r.list(v) {
		var s string
		if r.text(field{key: v.key, label: v.label, value: item}, &s, check) {
			all = append(all, s)
		}
	}
	return all
}

// content returns a scalar as it was written, without quotes.
func content(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	}
	return n.GetToken().Value
}

// oneOf returns a check for words.
func oneOf[T ~string](words ...T) func(string) (T, error) {
	return func(s string) (T, error) {
		if slices.Contains(words, T(s)) {
			return T(s), nil
		}
		plain := make([]string, len(words))
		for i, w := range words {
			plain[i] = string(w)
		}
		e := &valueError{found: s, want: strings.Join(plain[:len(plain)-1], ", ") + " or " + plain[len(plain)-1]}
		if word := near(s, plain); word != "" {
			e.hint = fmt.Sprintf("did you mean %q?", word)
		}
		return "", e
	}
}
