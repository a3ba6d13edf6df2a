package apply

import (
	"os"
	"testing"

	"repld/change"
	"repld/health"
	"repld/internal/testfs"
	"repld/tree"
)

// deaf is a file system on which owners can't be set.
type deaf struct {
	tree.FS
	mute bool // they can be
}

func (d *deaf) SetMeta(p tree.Place, kind change.Kind, m *change.Meta) ([]string, error) {
	if d.mute {
		return d.FS.SetMeta(p, kind, m)
	}
	own := *m
	own.UID, own.GID = uint32(os.Geteuid()), uint32(os.Getegid())
	names, err := d.FS.SetMeta(p, kind, &own)
	if own.UID != m.UID {
		names = append(names, "owner")
	}
	return names, err
}

func (d *deaf) Create(p tree.Place) (tree.WriteFile, error) {
	f, err := d.FS.Create(p)
	return &deafFile{f, d}, err
}

type deafFile struct {
	tree.WriteFile
	on *deaf
}

func (f *deafFile) SetMeta(m *change.Meta) ([]string, error) {
	if f.on.mute {
		return f.WriteFile.SetMeta(m)
	}
	own := *m
	own.UID, own.GID = uint32(os.Geteuid()), uint32(os.Getegid())
	names, err := f.WriteFile.SetMeta(&own)
	if own.UID != m.UID {
		names = append(names, "owner")
	}
	return names, err
}

// TestNotPermitted: what can't be set is a condition for as long as the trees lack it.
func TestNotPermitted(t *testing.T) {
	testfs.NeedRoot(t)
	p := newPrimary(t)
	p.write("theirs", "data")
	s := newStandby(t, p)
	var fs *deaf
	s.options = func(o *Options) {
		fs = &deaf{FS: o.Trees[0].FS, mute: true}
		o.Trees[0].FS = fs
	}
	must(t, s.start())
	seed(t, p, s)
	apply := func() {
		t.Helper()
		p.barrier()
		s.receive(p)
		must(t, s.Step(t.Context()))
	}
	s.round()
	if s.has(health.NotPermitted) {
		t.Fatal("something is said to be missing")
	}
	fs.mute = false
	p.write("new", "data")
	for _, name := range []string{"new", "theirs"} {
		must(t, os.Chown(p.at(name), 12345, 0))
	}
	apply()
	if !s.has(health.NotPermitted) {
		t.Fatal("nobody says that the owner is missing")
	}
	s.round()
	if !s.has(health.NotPermitted) {
		t.Error("a round ends it while owners are missing")
	}
	must(t, os.Chown(p.at("theirs"), 0, 0))
	apply()
	s.round()
	if !s.has(health.NotPermitted) {
		t.Error("a round ends it while one owner is missing")
	}
	must(t, os.Remove(p.at("new")))
	apply()
	s.round()
	if s.has(health.NotPermitted) {
		t.Error("it stands though nothing is missing any more")
	}
	same(t, p, s)
}
