package daemon

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"repld/config"
	"repld/parity"
)

// TestReadyComparesServers compares the settings of two nodes' database servers, and says
// which one can't be asked.
func TestReadyComparesServers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	here, there := newRealServer(t, "max_connections=40", "enable_sort=off", "timezone=UTC"), newRealServer(t, "max_connections=30", "timezone=Europe/Berlin")
	here.create()
	there.create()
	with := func(c *config.Config, s *realServer) *config.Config {
		c.Groups[1].Databases = []config.Database{s.conf()}
		c.Parity = config.Parity{Settings: []string{"enable_sort", "no_such_setting"}}
		return c
	}
	standby := launch(t, with(configure(t, dir, "standby", config.Secondary), there), "standby")
	primary := launch(t, with(configure(t, dir, "primary", config.Primary), here), "primary")
	join(t, standby, primary)
	primary.applied("one")

	texts := func() (all []string) {
		r, _ := primary.report()
		for _, d := range r.Parity {
			if d.What == "parameter" || d.What == "unknown" {
				all = append(all, d.Text)
			}
		}
		return all
	}
	found := texts()
	for _, want := range []string{
		"parameter two/main max_connections: 40 on primary, 30 on standby: a replica does not start with less than its primary has",
		"parameter two/main TimeZone: UTC on primary, Europe/Berlin on standby",
		"parameter two/main enable_sort: off on primary, on on standby",
		"setting no_such_setting can't be compared: on primary: no database server has a setting of this name",
	} {
		if !slices.Contains(found, want) {
			t.Errorf("found %q, want %q among it", found, want)
		}
	}
	if len(found) != 4 {
		t.Errorf("found %d differences: %q", len(found), found)
	}
	if out, err := exec.Command(filepath.Join(there.dir, "stop")).CombinedOutput(); err != nil {
		t.Fatalf("stop: %v\n%s", err, out)
	}
	found = texts()
	if !slices.ContainsFunc(found, func(s string) bool {
		return strings.HasPrefix(s, "database two/main can't be compared: on standby: ") && strings.Contains(s, "can't be reached")
	}) || slices.ContainsFunc(found, func(s string) bool { return strings.HasPrefix(s, "parameter") }) {
		t.Errorf("with a server that is down found %q", found)
	}
	if r, _ := primary.report(); !slices.ContainsFunc(r.Parity, func(d parity.Difference) bool { return d.What == "unknown" && d.There != "" }) {
		t.Errorf("nothing is unknown: %+v", r.Parity)
	}
}
