package web

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"
)

func monitoring(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/MONITORING.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The operators' table of metrics is the list of those that exist.
func TestDocumentedMetrics(t *testing.T) {
	var want []string
	for _, m := range metrics {
		kind, labels := "gauge", "–"
		if m.kind == prometheus.CounterValue {
			kind = "counter"
		}
		if len(m.labels) > 0 {
			labels = "`" + strings.Join(m.labels, "`, `") + "`"
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s |", m.name, kind, labels, m.help))
	}
	doc := monitoring(t)
	got := regexp.MustCompile("(?m)^\\| `repld_.*$").FindAllString(doc, -1)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("docs/MONITORING.md has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	known := map[string]bool{"repld_": true}
	for _, m := range metrics {
		known[m.name] = true
	}
	for _, name := range regexp.MustCompile(`\brepld_[a-z_]*`).FindAllString(doc, -1) {
		if !known[name] {
			t.Errorf("docs/MONITORING.md speaks of %s, which does not exist", name)
		}
	}
}

// The examples are at least YAML, and every rule has what a rule needs.
func TestDocumentedExamples(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(monitoring(t), -1)
	rules := 0
	for _, b := range blocks {
		var file struct {
			Groups []struct {
				Rules []struct {
					Alert, Expr, For    string
					Labels, Annotations map[string]string
				}
			}
		}
		if err := yaml.Unmarshal([]byte(b[1]), &file); err != nil {
			t.Errorf("%v in\n%s", err, b[1])
			continue
		}
		for _, g := range file.Groups {
			for _, r := range g.Rules {
				rules++
				if r.Alert == "" || r.Expr == "" || r.For == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
					t.Errorf("rule %+v lacks something", r)
				}
			}
		}
	}
	if len(blocks) < 3 || rules < 5 {
		t.Errorf("found %d examples with %d rules", len(blocks), rules)
	}
}
