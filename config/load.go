package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxSize is the largest file that is read, in bytes.
const MaxSize = 256 << 10

// maxDepth bounds how deep lists and mappings nest, because the parser calls
// itself for each. The deepest value that means something is at 6.
const maxDepth = 32

// maxErrors bounds what is told about a file that is no configuration at all.
const maxErrors = 100

// Load reads the file at path. Its errors are [Errors]; if the file can't be read,
// they wrap why.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	return Parse(path, data)
}

func unreadable(path string, err error) Errors {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err // the path stands before it already
	}
	return Errors{{File: path, Text: fmt.Sprintf("can't be read: %v", err), cause: err}}
}

// Parse reads a configuration; name is the file's in errors. The errors are
// [Errors].
func Parse(name string, data []byte) (*Config, error) {
	r := &reader{source: source{file: name, where: map[string]position{}}}
	c := r.config(r.document(data))
	if len(r.errs) == 0 {
		c.source = r.source
		return c, nil
	}
	r.errs.Sort()
	if more := len(r.errs) - maxErrors; more > 0 {
		r.errs = append(r.errs[:maxErrors], &Error{File: name, Text: fmt.Sprintf("there are %d more errors", more)})
	}
	return nil, r.errs
}

// document returns the root of the only document, or nil after an error.
func (r *reader) document(data []byte) ast.Node {
	if len(data) > MaxSize {
		r.wrong(nil, "", "the file has more than %d bytes, the most that is read", MaxSize)
		return nil
	}
	tokens := lexer.Tokenize(string(data))
	if !r.plain(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return nil
	}
	var root ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case root != nil:
			r.wrong(at(doc.Body), "", "found a second document, want one")
			return root
		default:
			root = doc.Body
		}
	}
	if root == nil {
		r.wrong(nil, "", "the file is empty: want a configuration with designated and groups")
	}
	return root
}

// plain refuses what a configuration has no use for and what would make the
// parser recurse without bound.
func (r *reader) plain(tokens token.Tokens) bool {
	depth, dashes, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, dashes = t.Position.Line, 0
		}
		switch t.Type {
		case token.AnchorType, token.MergeKeyType:
			r.wrong(t, "", "found %q, an anchor or a merge: want every value where it belongs", t.Value)
		case token.AliasType:
			r.wrong(t, "put a text that begins with * in quotes", `found "*", an alias: want a value`)
		case token.TagType, token.DirectiveType, token.MappingKeyType:
			r.wrong(t, "", "found %q: tags, directives and complex keys are not used here", t.Value)
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType:
			dashes++
		}
		if depth+dashes > maxDepth {
			r.wrong(t, "", "lists and mappings nest deeper than %d", maxDepth)
			return false
		}
	}
	return len(r.errs) == 0
}

// syntax tells what the parser refused.
func (r *reader) syntax(err error) {
	var e yaml.Error
	if !errors.As(err, &e) {
		r.wrong(nil, "", "this is no YAML: %s", oneLine(err.Error()))
		return
	}
	r.wrong(e.GetToken(), "", "this is no YAML: %s", oneLine(e.GetMessage()))
}

func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(s, "character '\t' that cannot start any token", "a tab, which YAML doesn't take for indentation")), " ")
}
