package main

import (
	"strings"
	"testing"
	"time"
)

// TestTablesOfDatabases writes what sequences of databases leave.
func TestTablesOfDatabases(t *testing.T) {
	r := &results{started: time.Unix(0, 0), options: options{work: t.TempDir()}}
	for _, seconds := range []float64{3, 1, 2} {
		r.add("wal", "WAL", "repld", sample{Seconds: seconds, Wire: 1 << 20})
		r.add("wal", "WAL", "a replica", sample{Seconds: 2 * seconds, Wire: 3 << 20})
	}
	for i := range 100 {
		r.add("replayed", "every second", "repld", sample{Seconds: float64(i) / 1000})
	}
	var out strings.Builder
	if err := r.markdown(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| repld | 2.00 | | 1.0 MiB |\n", "| a replica | 4.00 | **0.50** | 3.0 MiB |\n", "| every second | 100 | 50 ms | 95 ms |\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want the line %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "rsync s") {
		t.Errorf("there is a table of trees without any case:\n%s", out.String())
	}
}
