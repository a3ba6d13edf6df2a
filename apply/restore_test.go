package apply

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"repld/change"
)

// TestRestore: any path of any retained barrier, exactly as it was.
func TestRestore(t *testing.T) {
	ro := newRounds(t, 7)
	for range 8 {
		ro.barrier(15)
	}
	to := t.TempDir()
	cert, _ := ro.s.Applied()
	for i, c := range append(ro.s.Retained(), cert) {
		dir := filepath.Join(to, c.ID.String())
		out, err := ro.s.Restore(t.Context(), "tree", c.ID, dir)
		must(t, err)
		if i == 0 && (out.Files == 0 || out.Target != filepath.Join(dir, "tree")) {
			t.Errorf("restored %+v", out)
		}
		equal(t, "restored "+c.ID.String(), listing(t, filepath.Join(dir, "tree")), ro.seen[c.ID])
		if _, err := ro.s.Restore(t.Context(), "tree", c.ID, dir); !errors.Is(err, ErrTargetExists) {
			t.Errorf("restored twice: %v", err)
		}
	}
	ro.at(ro.now)
}

// TestRestoreOne: one file, its versions, and what can't be had.
func TestRestoreOne(t *testing.T) {
	p := newPrimary(t)
	p.write("dir/file", "first")
	p.write("other", "other")
	s := seeded(t, p)
	first, _ := s.Applied()
	p.write("dir/file", "second, longer")
	s.sync(p)
	p.mv("dir", "moved")
	s.sync(p)
	third, _ := s.Applied()
	p.write("other", "another")
	s.sync(p)
	must(t, os.RemoveAll(p.at("moved")))
	s.sync(p)

	versions, err := s.Find(t.Context(), "tree/dir/file")
	must(t, err)
	if len(versions) != 3 || versions[0].Kind != 0 || !versions[0].Present || versions[1].Size != 14 || versions[2].Size != 5 ||
		versions[2].Barrier.ID != first.ID || versions[1].Digest == versions[2].Digest {
		t.Errorf("found %+v", versions)
	}
	versions, err = s.Find(t.Context(), "tree/moved/file")
	must(t, err)
	if len(versions) != 3 || versions[1].Size != 14 || versions[1].Barrier.ID.Seq != p.seq-1 || versions[2].Kind != 0 {
		t.Errorf("found %+v", versions)
	}
	if _, err := s.Find(t.Context(), "tree/nobody"); !errors.Is(err, ErrNotThere) {
		t.Errorf("found what never was: %v", err)
	}

	to := t.TempDir()
	_, err = s.Restore(t.Context(), "tree/dir/file", first.ID, to)
	must(t, err)
	if b, _ := os.ReadFile(filepath.Join(to, "file")); string(b) != "first" {
		t.Errorf("restored %q", b)
	}
	_, err = s.Restore(t.Context(), "tree/moved", third.ID, to)
	must(t, err)
	if b, _ := os.ReadFile(filepath.Join(to, "moved/file")); string(b) != "second, longer" {
		t.Errorf("restored %q", b)
	}
	for _, bad := range []struct {
		path string
		id   change.BarrierID
		dir  string
		want error
	}{
		{"tree/nobody", first.ID, to, ErrNotThere},
		{"tree/moved", first.ID, filepath.Join(to, "moved"), ErrNotThere},
		{"tree/dir", change.BarrierID{Epoch: 9, Seq: 9}, to, ErrNotRetained},
		{"tree/dir", first.ID, filepath.Join(s.dir, "inside"), nil},
		{"tree/dir", first.ID, filepath.Join(s.vol.OwnPath(), "inside"), nil},
		{"tree/..", first.ID, to, nil},
		{"", first.ID, to, nil},
	} {
		if _, err := s.Restore(t.Context(), bad.path, bad.id, bad.dir); err == nil || bad.want != nil && !errors.Is(err, bad.want) {
			t.Errorf("restore %q at %s to %q: %v, want %v", bad.path, bad.id, bad.dir, err, bad.want)
		}
	}
	// Kept data that was damaged is found out, and nothing is left of the attempt.
	must(t, filepath.Walk(filepath.Join(s.vol.OwnPath(), keepDir), func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			err = os.WriteFile(path, []byte(strings.Repeat("x", int(info.Size()))), 0o600)
		}
		return err
	}))
	if _, err := s.Restore(t.Context(), "tree/dir", first.ID, to); !errors.Is(err, ErrIncomplete) {
		t.Errorf("damaged data was restored: %v", err)
	}
	s.fetch = noFetch{}
	s.reopen(nil, nil)
	want := listing(t, s.dir)
	if err := s.Rewind(t.Context(), first.ID); !errors.Is(err, ErrIncomplete) || s.Paused() {
		t.Errorf("rewound to damaged data: %v", err)
	}
	equal(t, "after a rewind that failed", listing(t, s.dir), want)
	entries, err := os.ReadDir(to)
	must(t, err)
	if len(entries) != 2 {
		t.Errorf("left: %v", entries)
	}
	s.sync(p)
	same(t, p, s)
}

// TestSalvages: what was set aside is listed, shown and taken out.
func TestSalvages(t *testing.T) {
	p := newPrimary(t)
	p.write("a/file", "original")
	s := seeded(t, p)
	if list, err := s.Salvages(); err != nil || len(list) != 0 {
		t.Errorf("salvaged %v, %v", list, err)
	}
	s.put("a/file", "foreign")
	s.put("a/new", "also foreign")
	must(t, os.RemoveAll(p.at("a")))
	s.sync(p)
	list, err := s.Salvages()
	must(t, err)
	if len(list) != 1 || list[0].Entries != 2 || list[0].Bytes != 19 || len(list[0].Reasons) != 2 || list[0].At.IsZero() {
		t.Fatalf("salvaged %+v", list)
	}
	var entries []SalvagedEntry
	must(t, s.SalvagedEntries(list[0].ID, func(e SalvagedEntry) error { entries = append(entries, e); return nil }))
	if len(entries) != 2 || entries[0].Path != "tree/a/file" {
		t.Errorf("entries %+v", entries)
	}
	if b, _ := os.ReadFile(entries[0].Kept); string(b) != "foreign" {
		t.Errorf("kept %q", b)
	}
	to := t.TempDir()
	_, err = s.RestoreSalvaged(t.Context(), list[0].ID, "tree/a/new", to)
	must(t, err)
	if b, _ := os.ReadFile(filepath.Join(to, "new")); string(b) != "also foreign" {
		t.Errorf("restored %q", b)
	}
	out, err := s.RestoreSalvaged(t.Context(), list[0].ID, "", to)
	must(t, err)
	if b, _ := os.ReadFile(filepath.Join(to, "tree/a/file")); string(b) != "foreign" || len(out) != 1 || out[0].Files != 2 {
		t.Errorf("restored %q, %+v", b, out)
	}
	if _, err := s.RestoreSalvaged(t.Context(), list[0].ID, "", to); !errors.Is(err, ErrTargetExists) {
		t.Errorf("restored twice: %v", err)
	}
	if _, err := s.RestoreSalvaged(t.Context(), "../stage", "", to); !errors.Is(err, ErrNoSalvage) {
		t.Errorf("took %v for a salvage", err)
	}
	if _, err := s.RestoreSalvaged(t.Context(), list[0].ID, "tree/nobody", to); !errors.Is(err, ErrNotThere) {
		t.Errorf("restored nobody: %v", err)
	}

	for _, id := range []string{"../stage", ".", "", "nobody"} {
		if _, err := s.RemoveSalvaged(t.Context(), id); !errors.Is(err, ErrNoSalvage) {
			t.Errorf("removed %q: %v", id, err)
		}
	}
	if set, err := s.RemoveSalvaged(t.Context(), list[0].ID); err != nil || set.Entries != 2 || set.Bytes != 19 {
		t.Errorf("removed %+v, %v", set, err)
	}
	if left, err := s.Salvages(); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	s.put("foreign", "again")
	p.write("foreign", "the primary's")
	s.sync(p)
	same(t, p, s)
	if kept := salvagedFiles(t, s); len(kept) != 1 {
		t.Errorf("salvaged %v", kept)
	}
}

// TestStaging: staged files, the history and what is set aside live where staging
// says, and nowhere else.
func TestStaging(t *testing.T) {
	p := newPrimary(t)
	p.write("file", "first")
	s := newStandby(t, p)
	s.staging = filepath.Join(filepath.Dir(s.dir), "elsewhere")
	must(t, s.start())
	seed(t, p, s)
	first, _ := s.Applied()
	p.write("file", "second")
	s.sync(p)
	s.put("file", "foreign")
	p.write("file", "third")
	s.sync(p)
	if s.vol.OwnPath() != s.staging {
		t.Errorf("the own directory is %s", s.vol.OwnPath())
	}
	if n, _ := keptFiles(t, s); n != 1 { // what somebody overwrote is not in the history, but set aside
		t.Errorf("%d files are kept", n)
	}
	if kept := salvagedFiles(t, s); len(kept) != 1 {
		t.Errorf("salvaged %v", kept)
	}
	must(t, s.Rewind(t.Context(), first.ID))
	if b, _ := os.ReadFile(filepath.Join(s.dir, "file")); string(b) != "first" {
		t.Errorf("rewound to %q", b)
	}
	entries, err := os.ReadDir(filepath.Dir(s.dir))
	must(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".repld") {
			t.Errorf("%s was made beside the tree", e.Name())
		}
	}
	s.stop()
	s.staging = filepath.Join(s.dir, "inside")
	if err := s.start(); err == nil {
		t.Error("staged inside of the tree")
	}
}
