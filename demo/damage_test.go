package demo

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"repld/control"
)

// damages are what the checks must find.
var damages = []struct {
	name string
	do   func(t *testing.T, p place, said *control.Barrier) (undo func())
	want map[string]string // the checks that fail, and what they say
}{
	{"a flipped byte in the sample", func(t *testing.T, p place, _ *control.Barrier) func() {
		return flip(t, filepath.Join(p.tree(standbyName), sampleDir, "media/clip-1.bin"), 3<<20)
	}, map[string]string{
		checkDigest: "sample/media/clip-1.bin has other bytes",
		checkSample: "media/clip-1.bin has another content",
	}},
	{"a flipped byte in a row's file", func(t *testing.T, p place, _ *control.Barrier) func() {
		return flip(t, filepath.Join(application(p), fileOf(rowFirst, 5)), 100)
	}, map[string]string{
		checkDigest: "application/" + fileOf(rowFirst, 5) + " has other bytes",
		checkRows:   "row-first: operation 5",
	}},
	{"a row's file that is missing", func(t *testing.T, p place, _ *control.Barrier) func() {
		path := filepath.Join(application(p), fileOf(fileFirst, 7))
		restore := keepTime(t, filepath.Dir(path))
		away := filepath.Join(p.dir, "away")
		rename(t, path, away)
		return func() { rename(t, away, path); restore() }
	}, map[string]string{
		checkDigest: "application/" + fileOf(fileFirst, 7) + " is missing",
		checkRows:   "has a row and no file",
	}},
	{"a row that is missing", func(t *testing.T, p place, _ *control.Barrier) func() {
		return changeDatabase(t, p, func(path string) { execute(t, path, "delete from operation where writer = 'row-first' and seq = 3") })
	}, map[string]string{
		checkDigest: "application/" + databaseName,
		checkRows:   "row-first: operation 3",
	}},
	{"a flipped byte in the database", func(t *testing.T, p place, _ *control.Barrier) func() {
		// In the header of the schema's page, of which the log must hold no newer copy.
		return changeDatabase(t, p, func(path string) {
			execute(t, path, "pragma wal_checkpoint(truncate)")
			flip(t, path, 100)
		})
	}, map[string]string{
		checkDigest:    "application/" + databaseName,
		checkIntegrity: "malformed",
		checkRows:      "malformed",
	}},
	{"a file too many", func(t *testing.T, p place, _ *control.Barrier) func() {
		restore := keepTime(t, p.tree(standbyName))
		path := filepath.Join(p.tree(standbyName), "foreign")
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		return func() { os.Remove(path); restore() }
	}, map[string]string{checkDigest: "foreign is not in the catalog"}},
	{"another time", func(t *testing.T, p place, _ *control.Barrier) func() {
		path := filepath.Join(application(p), fileOf(rowFirst, 2))
		restore := keepTime(t, path)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, info.ModTime(), info.ModTime().Add(1)); err != nil {
			t.Fatal(err)
		}
		return restore
	}, map[string]string{checkDigest: "has other metadata"}},
	{"another barrier than the standby said", func(_ *testing.T, _ place, said *control.Barrier) func() {
		said.ID.Seq++
		return func() {}
	}, map[string]string{checkApplied: "the standby said"}},
}

func application(p place) string { return filepath.Join(p.tree(standbyName), applicationDir) }

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// keepTime restores the modification time of path later.
func keepTime(t *testing.T, path string) (restore func()) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
			t.Error(err)
		}
	}
}

// flip changes one byte under an unchanged modification time; flip again to undo it.
func flip(t *testing.T, path string, at int64) (undo func()) {
	t.Helper()
	defer keepTime(t, path)()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	return func() { flip(t, path, at) }
}

// changeDatabase lets change work on the database in the standby's tree.
func changeDatabase(t *testing.T, p place, change func(path string)) (undo func()) {
	t.Helper()
	path := filepath.Join(application(p), databaseName)
	restore := []func(){keepTime(t, application(p))}
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + suffix)
		if suffix != "" && errors.Is(err, os.ErrNotExist) { // after a clean end
			restore = append([]func(){func() { os.Remove(path + suffix) }}, restore...)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		again := keepTime(t, path+suffix)
		restore = append([]func(){func() {
			if err := os.WriteFile(path+suffix, data, 0o644); err != nil {
				t.Fatal(err)
			}
			again()
		}}, restore...)
	}
	change(path)
	return func() {
		for _, r := range restore {
			r()
		}
	}
}

// execute changes a database in place and leaves nothing but it and its log.
func execute(t *testing.T, path, statement string) {
	t.Helper()
	db, err := openDatabase(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
