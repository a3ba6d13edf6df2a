package apply

import (
	"os"
	"path/filepath"
	"testing"
)

// write puts a file into the primary's tree, replacing the bytes in place.
func (p *primary) write(path, data string) {
	p.t.Helper()
	must(p.t, os.MkdirAll(filepath.Dir(p.at(path)), 0o755))
	must(p.t, os.WriteFile(p.at(path), []byte(data), 0o644))
}

func (p *primary) at(path string) string { return filepath.Join(p.dir, path) }

func (p *primary) mv(from, to string) {
	p.t.Helper()
	must(p.t, os.Rename(p.at(from), p.at(to)))
}

func TestSeedAndFollow(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "one")
	p.write("d/b", "two")
	p.write("d/e/c", "three")
	must(t, os.Symlink("a", p.at("link")))
	must(t, os.Link(p.at("a"), p.at("d/a2")))
	s := seeded(t, p)
	p.write("a", "one and a half")
	p.write("new", "four")
	p.mv("d/e", "f")
	must(t, os.Remove(p.at("link")))
	s.sync(p)
	same(t, p, s)
	must(t, os.RemoveAll(p.at("f")))
	p.mv("d", "dd")
	s.sync(p)
	same(t, p, s)
}
