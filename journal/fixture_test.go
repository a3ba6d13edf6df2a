package journal_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"repld/change"
	"repld/journal"
)

var writeFixture = flag.Bool("write-fixture", false, "write testdata/v1 anew: only while version 1 isn't released")

const fixture = "testdata/v1"

// A log that version 1 wrote is read for as long as version 1 is.
func TestFixtureVersion1(t *testing.T) {
	first, second := links(5), unchained()
	if *writeFixture {
		makeFixture(t, first, second)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(fixture)); err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)
	l, err := journal.Open(dir, journal.Options{SegmentSize: 500})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := readAll(l, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := append(first, second...)
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if b, ok := got[i].(*change.Barrier); ok {
			want[i].(*change.Barrier).Chain = b.Chain // checked by Open
		}
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("record %d: %#v\nwant %#v", i, got[i], want[i])
		}
	}
	chain, err := change.ParseDigest("b3:2d36b6805836b25c47d195cd3126d54133fa7af30572c28d477c38e479ae6a6b")
	if err != nil {
		t.Fatal(err)
	}
	if end := (change.LogPosition{Incarnation: id(2), Offset: 939, Chain: chain}); l.End() != end {
		t.Errorf("ends at %+v, want %+v", l.End(), end)
	}
	if list := l.Incarnations(); !slices.Equal(list, []journal.Incarnation{{ID: id(1)}, {ID: id(2), Start: 90}}) {
		t.Error(list)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(contents(t, dir), before) {
		t.Error("opening and closing changed the files")
	}
}

func makeFixture(t *testing.T, first, second []change.Record) {
	t.Helper()
	if err := os.RemoveAll(fixture); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(fixture, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := journal.Open(fixture, journal.Options{SegmentSize: 500})
	if err != nil {
		t.Fatal(err)
	}
	begin(t, l, 1)
	appendAll(t, l, first...)
	begin(t, l, 2)
	appendAll(t, l, second...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[d.Name()] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
