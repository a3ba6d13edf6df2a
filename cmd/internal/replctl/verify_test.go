package replctl

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"repld/change"
	"repld/control"
)

// TestVerdict: what mends a difference is named by what differs.
func TestVerdict(t *testing.T) {
	file := control.Difference{Path: "tree/a", What: "content"}
	replica := control.Difference{Path: "database main", What: control.DiffersReplica}
	const repair, seed = "verify --repair", "database seed NAME"
	for _, c := range []struct {
		differences []control.Difference
		repaired    bool
		text        string
		hints, not  []string
	}{
		{[]control.Difference{file}, false, "the trees differ", []string{repair}, []string{seed}},
		{[]control.Difference{file}, true, "the trees differ", nil, []string{repair, seed}},
		{[]control.Difference{replica}, false, "a database is not at the barrier", []string{"database status", seed}, []string{repair}},
		{[]control.Difference{replica}, true, "a database is not at the barrier", []string{seed}, []string{repair}},
		{[]control.Difference{file, replica}, false, "the trees differ, and a database is not at the barrier", []string{repair, seed}, nil},
		{[]control.Difference{file, replica}, true, "a database is not at the barrier, or trees still differ", []string{seed}, []string{repair}},
	} {
		var e *control.Error
		if err := verdict(&control.VerifyReport{Differences: c.differences}, c.repaired); !errors.As(err, &e) || e.Code != control.ExitDiffers || e.Error() != c.text {
			t.Errorf("%v, repaired %t: %v, want %q", c.differences, c.repaired, err, c.text)
			continue
		}
		for _, want := range c.hints {
			if !strings.Contains(e.Hint, want) {
				t.Errorf("%q: hint %q, want %q in it", c.text, e.Hint, want)
			}
		}
		for _, other := range c.not {
			if strings.Contains(e.Hint, other) {
				t.Errorf("%q: hint %q has %q", c.text, e.Hint, other)
			}
		}
	}
	if err := verdict(&control.VerifyReport{Equal: true}, false); err != nil {
		t.Error(err)
	}
}

// TestBarriersWithDatabases: positions have a column where a barrier has any.
func TestBarriersWithDatabases(t *testing.T) {
	entry := func(databases ...change.DatabasePosition) control.BarrierEntry {
		return control.BarrierEntry{Barrier: control.BarrierOf(change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: 2}, Databases: databases})}
	}
	with := entry(change.DatabasePosition{Name: "main", Engine: change.EnginePostgres, Position: change.StreamPosition{Chapter: 1, Offset: 0x5000950}})
	for _, c := range []struct {
		list []control.BarrierEntry
		want string // of the first row, by the header's columns
	}{{[]control.BarrierEntry{with, entry()}, "main 0/5000950"}, {[]control.BarrierEntry{entry(), with}, "-"}, {[]control.BarrierEntry{entry()}, ""}} {
		var b bytes.Buffer
		if err := writeBarriers(&b, &control.BarrierList{Barriers: c.list}); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(b.String(), "\n")
		at := strings.Index(lines[0], "DATABASES")
		if (at >= 0) != (c.want != "") || at >= 0 && !strings.HasPrefix(lines[1][at:], c.want+" ") {
			t.Errorf("want %q, found\n%s", c.want, b.String())
		}
	}
}
