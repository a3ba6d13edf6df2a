package pairtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSQLiteThatIsDamaged is found out when its rows are read.
func TestSQLiteThatIsDamaged(t *testing.T) {
	for _, journal := range []string{"wal", "delete"} {
		s := SQLite{Path: filepath.Join(t.TempDir(), "rows"), Journal: journal}
		if err := s.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
		session, err := s.Session(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		for op := range int64(300) {
			if err := session.Commit(t.Context(), []Row{{Op: op + 1}, {Op: op + 1, File: 1}}, 0, op-199); err != nil {
				t.Fatal(err)
			}
		}
		session.Close() // the last one moves the log into the database
		if rows, err := s.Rows(t.Context()); err != nil || len(rows) != 400 {
			t.Fatalf("%s: found %d rows, %v; want 400", journal, len(rows), err)
		}
		content, err := os.ReadFile(s.Path)
		if err != nil {
			t.Fatal(err)
		}
		// A page stands where another belongs.
		const page = 4096
		if bytes.Equal(content[page:2*page], content[2*page:3*page]) {
			t.Fatal("two pages are equal")
		}
		copy(content[page:2*page], content[2*page:3*page])
		if err := os.WriteFile(s.Path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Rows(t.Context()); err == nil || !strings.Contains(err.Error(), "rows") {
			t.Errorf("%s: a damaged database: %v", journal, err)
		}
	}
}
