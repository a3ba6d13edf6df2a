package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Whatever the bytes are, there is a configuration that keeps its promises, or
// errors of one line each.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err == nil {
			check(t, c)
			return
		}
		var errs Errors
		if c != nil || !errors.As(err, &errs) || len(errs) == 0 {
			t.Fatalf("found %v and %v, want one of them", c, err)
		}
		for _, e := range errs {
			if s := e.Error(); strings.ContainsAny(s, "\n\r") || !strings.HasPrefix(s, "f:") || e.Text == "" {
				t.Errorf("not one line with a position: %q", s)
			}
		}
	})
}

func check(t *testing.T, c *Config) {
	if c.Designated == "" || c.Listen == "" || c.State == "" || c.Control == "" || len(c.Groups) == 0 {
		t.Errorf("not complete: %+v", c)
	}
	for _, g := range c.Groups {
		if g.Name == "" || len(g.Trees) == 0 || g.Journal.Limit <= 0 || g.Barrier.Every <= 0 || g.Barrier.LateAfter <= g.Barrier.Every ||
			g.Rescan.Every <= 0 || g.Guard.Changed <= 0 || g.History.Limit <= 0 || g.History.Keep < 0 {
			t.Errorf("not complete: %+v", g)
		}
		for _, tree := range g.Trees {
			if tree.Name == "" || !filepath.IsAbs(tree.Path) || filepath.Clean(tree.Path) != tree.Path || Inside(c.State, tree.Path) {
				t.Errorf("not checked: %+v", tree)
			}
		}
	}
	for _, a := range c.Alerts {
		if len(a.Exec) == 0 == (a.Post == "") || a.Timeout <= 0 || a.AtMostEvery <= 0 {
			t.Errorf("not checked: %+v", a)
		}
	}
}

// Nesting and length must not become stack, memory or time.
func TestHostileFiles(t *testing.T) {
	const length = MaxSize / 4
	for name, text := range map[string]string{
		"too long":  strings.Repeat("#", MaxSize+1),
		"brackets":  strings.Repeat("[", length),
		"braces":    strings.Repeat("{a: ", length/4),
		"dashes":    strings.Repeat("- ", length/2),
		"questions": strings.Repeat("? ", length/2),
		"anchors":   strings.Repeat("&a ", length/3),
		"tags":      strings.Repeat("!a ", length/3),
		"colons":    strings.Repeat("a: ", length/3),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse("f", []byte(text))
			if err == nil {
				t.Error("accepted")
			}
			t.Logf("%v: %.100v", time.Since(start), err)
		})
	}
}
