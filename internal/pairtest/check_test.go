package pairtest

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// memory is a database in memory.
type memory struct {
	mu   sync.Mutex
	rows []Row
}

func (m *memory) Create(context.Context) error                   { return nil }
func (m *memory) Session(context.Context, bool) (Session, error) { return memorySession{m}, nil }
func (m *memory) Rows(context.Context) ([]Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.rows), nil
}

type memorySession struct{ *memory }

func (memorySession) Close() {}

func (s memorySession) Commit(_ context.Context, put []Row, writer int, remove int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = slices.DeleteFunc(s.rows, func(r Row) bool { return r.Writer == writer && r.Op == remove })
	s.rows = append(s.rows, put...)
	return nil
}

// TestCheck holds writers anywhere in their operations, where files and rows must
// agree, and looks at the files with the rows of a moment before and after, where
// they must not.
func TestCheck(t *testing.T) {
	dir, db := t.TempDir(), &memory{}
	const seed, keep = 7, 5
	l, err := Start(t.Context(), Options{Dir: dir, Database: db, Seed: seed, Writers: 4, Keep: keep})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	inFlight, caught, known := 0, 0, 0
	var checker Checker
	const rounds = 30
	var before []Row
	for i := range rounds {
		sum := l.Total()
		for end := time.Now().Add(20 * time.Second); l.Total() < sum+40 && time.Now().Before(end); {
			<-time.After(time.Millisecond)
		}
		least := l.Done()
		release := l.Hold()
		rows, _ := db.Rows(t.Context())
		demand := Demand{Seed: seed, Keep: keep, Least: least, Newest: l.Begun()}
		found, err := Check(dir, rows, demand)
		again, againErr := checker.Check(dir, rows, demand) // reads what is new
		var stale error
		if i > 0 {
			_, stale = Check(dir, before, Demand{Seed: seed, Keep: keep})
		}
		release()
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		known += again.Files - again.Read
		if again.Read = found.Read; againErr != nil || !reflect.DeepEqual(again, found) {
			t.Fatalf("round %d: a check of what is new: %+v, %v; want %+v", i, again, againErr, found)
		}
		inFlight += found.InFlight
		if stale != nil {
			caught++
		}
		before = rows
	}
	if err := l.Stop(); err != nil {
		t.Fatal(err)
	}
	if inFlight == 0 {
		t.Error("no operation was ever in flight")
	}
	if known == 0 {
		t.Error("no file was known from an earlier check")
	}
	if caught != rounds-1 {
		t.Errorf("rows of another moment were found out in %d of %d rounds", caught, rounds-1)
	}
	t.Logf("%d operations, %d in flight at %d moments", l.Total(), inFlight, rounds)
}

// TestViolations makes each of them.
func TestViolations(t *testing.T) {
	const seed, keep = 3, 4
	for name, c := range map[string]struct {
		spoil func(dir string, db *memory, last *operation)
		want  string
	}{
		"nothing":             {func(string, *memory, *operation) {}, ""},
		"a row without file":  {func(dir string, _ *memory, o *operation) { remove(t, dir, o, -1) }, "it is over, want all of it"},
		"a file without row":  {func(_ string, db *memory, o *operation) { drop(db, o.number-1, -1) }, "it is over, want all of it"},
		"another content":     {func(dir string, _ *memory, o *operation) { change(t, dir, o.number-2) }, "it is over, want all of it"},
		"half a transaction":  {func(_ string, db *memory, o *operation) { drop(db, o.number, 0) }, "in part"},
		"files before rows":   {func(_ string, db *memory, o *operation) { drop(db, o.number, -1) }, "one transaction"},
		"something was left":  {func(dir string, _ *memory, o *operation) { leave(t, dir, seed, o, keep) }, "it was removed"},
		"a removed one's row": {func(_ string, db *memory, o *operation) { db.rows = append(db.rows, Row{Op: o.number - keep - 1}) }, "it was removed"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, db := t.TempDir(), &memory{}
			last := perform(t, dir, db, seed, keep, 12)
			c.spoil(dir, db, last)
			_, err := Check(dir, db.rows, Demand{Seed: seed, Keep: keep, Least: []int64{0}})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestCheckerReadsWhatChanged: a file that was right at the last check and isn't any more
// is found out.
func TestCheckerReadsWhatChanged(t *testing.T) {
	dir, db := t.TempDir(), &memory{}
	d := Demand{Seed: 5, Keep: 4}
	last := perform(t, dir, db, d.Seed, d.Keep, 12)
	var k Checker
	for _, read := range []bool{true, false} {
		if f, err := k.Check(dir, db.rows, d); err != nil || (f.Read > 0) != read {
			t.Fatalf("%+v, %v; want that files are read: %v", f, err, read)
		}
	}
	path := filepath.Join(dir, fileName(0, last.number-1, 0))
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, st.Size()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	if f, err := k.Check(dir, db.rows, d); err == nil || f.Read != 1 {
		t.Errorf("%+v, %v; want one file read, and found out", f, err)
	}
	d.Lost = func(writer int) bool { return writer == 0 }
	if _, err := k.Check(dir, db.rows, d); err != nil {
		t.Errorf("a writer that is left out: %v", err)
	}
}

// perform does operations up to one with two files and rows at least, not less than
// least in number.
func perform(t *testing.T, dir string, db *memory, seed uint64, keep, least int64) *operation {
	t.Helper()
	l, err := Start(t.Context(), Options{Dir: dir, Database: db, Seed: seed, Writers: 0, Keep: keep})
	if err != nil {
		t.Fatal(err)
	}
	for sub := range subdirs {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(fileName(0, int64(sub), 0))), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for n := int64(1); ; n++ {
		o := drawOf(seed, keep, 0).operation(0, n)
		if err := l.do(t.Context(), memorySession{db}, o); err != nil {
			t.Fatal(err)
		}
		if n >= least && len(o.contents) > 1 {
			return o
		}
	}
}

func remove(t *testing.T, dir string, o *operation, by int64) {
	if err := os.Remove(filepath.Join(dir, fileName(0, o.number+by, 0))); err != nil {
		t.Fatal(err)
	}
}

func drop(db *memory, op int64, file int) {
	db.rows = slices.DeleteFunc(db.rows, func(r Row) bool { return r.Op == op && (file < 0 || r.File == file) })
}

func change(t *testing.T, dir string, op int64) {
	if err := os.WriteFile(filepath.Join(dir, fileName(0, op, 0)), []byte("something else"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func leave(t *testing.T, dir string, seed uint64, o *operation, keep int64) {
	if err := drawOf(seed, keep, 0).operation(0, o.number-keep-1).writeFile(dir, 0); err != nil {
		t.Fatal(err)
	}
}
