package config

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// block is a fenced YAML block of a Markdown file.
	block = regexp.MustCompile("(?ms)^[ \t]*```ya?ml[^\n]*\n(.*?)^[ \t]*```")
	// setting is one that is commented out; prose has a space after the "#".
	setting = regexp.MustCompile(`(?m)^([ ]*)#([^ #])`)
	groups  = regexp.MustCompile(`(?m)^\s*groups:`)
	// excerpt is a part of a configuration: what it leaves out is added.
	excerpt = regexp.MustCompile(`\A(hooks|parity|coordination|alerts):`)
	// Rules of Prometheus have groups as well.
	ours = regexp.MustCompile(`\b(designated|trees):`)
)

// What is shipped as an example is a configuration: every YAML file of packaging
// that is installed or has groups, and every YAML block of the documentation that
// has groups of trees, or is an excerpt about hooks, coordination, parity or alerts.
func TestShippedExamples(t *testing.T) {
	for _, path := range files(t, "../packaging", ".yaml") {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if groups.Match(data) || strings.Contains(path, "/etc/") {
			parse(t, path, data)
			parse(t, path+" with every setting", setting.ReplaceAll(data, []byte("$1$2")))
		}
	}
	for _, path := range append(files(t, "../docs", ".md"), "../README.md") {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range block.FindAllSubmatchIndex(data, -1) {
			text := data[at[2]:at[3]]
			if excerpt.Match(text) {
				text = slices.Concat(text, []byte("designated: primary\ngroups: [{name: g, trees: [{name: t, path: /srv/t}]}]\n"))
			}
			if groups.Match(text) && ours.Match(text) {
				// Blank lines before it, so that errors have the lines of the file.
				before := bytes.Repeat([]byte("\n"), bytes.Count(data[:at[2]], []byte("\n")))
				parse(t, path, slices.Concat(before, text))
			}
		}
	}
}

func parse(t *testing.T, path string, data []byte) {
	t.Helper()
	if _, err := Parse(path, data); err != nil {
		t.Errorf("a shipped example is wrong:\n%v", err)
	}
	t.Logf("%s: an example of %d bytes", path, len(data))
}

// files returns what ends in suffix below dir, which may be missing.
func files(t *testing.T, dir, suffix string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, suffix) {
			found = append(found, path)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return found
}
