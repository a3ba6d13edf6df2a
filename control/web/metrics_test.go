package web

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"repld/control"
)

// TestMetrics compares every metric with testdata/metrics.txt.
func TestMetrics(t *testing.T) {
	want, err := os.Open("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	s := serve(node())
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(&collector{s.Server})
	if err := testutil.GatherAndCompare(registry, want); err != nil {
		t.Error(err)
	}
	if n := s.calls.Load(); n != 1 {
		t.Errorf("one scrape asked for %d statuses", n)
	}
}

func TestMetricsLint(t *testing.T) {
	problems, err := testutil.CollectAndLint(&collector{serve(node()).Server})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, m := range metrics {
		if !strings.HasPrefix(m.name, "repld_") || !strings.HasSuffix(m.help, ".") {
			t.Errorf("%s: %q", m.name, m.help)
		}
	}
}

// Every metric has a sample in the golden file, so that none is defined in vain.
func TestEveryMetricIsInUse(t *testing.T) {
	golden, err := os.ReadFile("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metrics {
		if !strings.Contains(string(golden), "# TYPE "+m.name+" ") {
			t.Errorf("testdata/metrics.txt has no %s", m.name)
		}
	}
}

func TestMetricsOfAnUnknownNode(t *testing.T) {
	// As it is right after the start: nothing is known, and nothing is made up.
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(&collector{serve(&control.Status{
		Node: "a\xff\"b", Version: "0.1.0", Role: control.RoleStandby, Status: "from-the-future",
		Groups: []control.Group{{Name: "g", Phase: control.PhaseSeeding, Barriers: control.GroupBarriers{Received: &control.Barrier{Epoch: 1, Seq: 7}}}},
	}).Server})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	want := "repld_barrier_epoch repld_barrier_seq repld_barrier_stall_seconds repld_barrier_uncovered_files repld_epoch repld_info " +
		"repld_link_up repld_phase repld_role repld_status repld_up"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestScrape(t *testing.T) {
	s := serve(node())
	w := do(s, http.MethodGet, "/metrics")
	for _, want := range []string{"\nrepld_up 1\n", "\ngo_goroutines ", "\nprocess_resident_memory_bytes "} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %q", want)
		}
	}
	if w.Code != 200 || s.calls.Load() != 1 {
		t.Errorf("%d after %d statuses", w.Code, s.calls.Load())
	}
	s.err = errors.New("closed")
	w = do(s, http.MethodGet, "/metrics")
	if body := w.Body.String(); w.Code != 200 || !strings.Contains(body, "\nrepld_up 0\n") || strings.Contains(body, "repld_info") || !strings.Contains(body, "\ngo_goroutines ") {
		t.Errorf("%d %s", w.Code, body)
	}
}
