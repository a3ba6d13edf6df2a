package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"repld/change"
	"repld/journal/catalog"
)

// explained is how many paths of a difference are looked up.
const explained = 5

// equalTrees compares the trees of all groups. Of a difference it tells whose catalog has
// what differs, so that it can be said which side has lost it, and keeps everything.
func (k *soak) equalTrees() {
	k.t.Helper()
	for _, group := range groupNames {
		for _, tree := range k.groups[group] {
			from, to := k.sides(tree)
			diff := difference(k.t, from, to)
			if diff == "" {
				sameTrees(k.t, from, to)
				continue
			}
			k.primary.kill()
			k.standby.kill()
			kept := k.keep(group, tree)
			k.t.Errorf("tree %s of group %s differs (- source, + standby):\n%s", tree, group, diff)
			for _, n := range []*node{k.primary, k.standby} {
				k.t.Logf("the catalog of the %s:\n%s", n.role, catalogSays(filepath.Join(kept, n.role, "catalog.db"), tree, differing(diff)))
			}
			k.t.Fatalf("the trees, and the states and logs of both nodes, are kept in %s", kept)
		}
	}
}

// keep copies what a difference can be explained with to a directory that stays.
func (k *soak) keep(group, tree string) string {
	k.t.Helper()
	kept, err := os.MkdirTemp("", "soak-kept-")
	if err != nil {
		k.t.Fatal(err)
	}
	from, to := k.sides(tree)
	for what, as := range map[string]string{
		from: "from", to: "to", k.primary.log: "primary.log", k.standby.log: "standby.log",
		filepath.Join(k.primary.state, "groups", group): "primary", filepath.Join(k.standby.state, "groups", group): "standby",
	} {
		if r := command(k.t, "cp", "-a", "--", what, filepath.Join(kept, as)); r.code != 0 {
			k.t.Logf("keep %s: %s", what, r.stderr)
		}
	}
	return kept
}

// differing returns the paths that a difference names.
func differing(diff string) (paths []string) {
	for line := range strings.Lines(diff) {
		quoted, err := strconv.QuotedPrefix(strings.TrimLeft(line, "+- "))
		if err != nil {
			continue
		}
		if path, err := strconv.Unquote(quoted); err == nil && len(paths) < explained {
			paths = append(paths, path)
		}
	}
	return paths
}

// catalogSays tells what a catalog has on the way to each path, and what its newest
// barriers are. Opening may write to the file.
func catalogSays(file, tree string, paths []string) string {
	c, err := catalog.Open(file, catalog.Options{NoSync: true})
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	var says strings.Builder
	err = c.View(func(tx *catalog.Tx) error {
		shown := 0
		for b := range tx.Barriers() {
			if shown++; shown > 3 {
				break
			}
			fmt.Fprintf(&says, "barrier %s %v, cut at %s, tree %v\n", b.ID, b.State, b.CutAt, b.Tree)
		}
		for _, path := range paths {
			if err := wayTo(&says, tx, tree, path); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		fmt.Fprintln(&says, err)
	}
	return says.String()
}

func wayTo(says *strings.Builder, tx *catalog.Tx, tree, path string) error {
	node, ok := tx.Lookup(change.GroupNode, tree)
	names := strings.Split(path, "/")
	for i := 0; ok; i++ {
		n, there, err := tx.Node(node)
		if err != nil {
			return err
		}
		fmt.Fprintf(says, "%q node %d, there %v: kind %v, meta %v, %d bytes, %d names, object %+v\n",
			strings.Join(names[:i], "/"), node, there, n.Kind, n.Meta, n.Size, n.Links, n.Local)
		if i == len(names) || path == "." {
			return nil
		}
		if n.Kind == change.KindDir {
			for name, child := range tx.Children(node, "") {
				fmt.Fprintf(says, "    %q node %d\n", name, child)
			}
		}
		if node, ok = tx.Lookup(node, names[i]); !ok {
			fmt.Fprintf(says, "%q isn't in it\n", strings.Join(names[:i+1], "/"))
		}
	}
	return nil
}

// TestCatalogSays: what a difference is explained with says what is there and what isn't.
func TestCatalogSays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "catalog.db")
	c, err := catalog.Open(file, catalog.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Update(func(tx *catalog.Tx) error {
		above := change.GroupNode
		for _, name := range []string{"tree", "ü", "b"} {
			node := tx.NewNode()
			if err := tx.Apply(&change.Put{Node: node, Kind: change.KindDir, Meta: change.Meta{Mode: 0o755}}); err != nil {
				return err
			}
			if err := tx.Apply(&change.Link{Parent: above, Name: name, Node: node}); err != nil {
				return err
			}
			above = node
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	paths := differing("- \"ü/b\" 40755 0:0 1.000000002 rdev 0\n+ \"ü/c\" 40755 0:0\n… 7 more")
	says := catalogSays(file, "tree", paths)
	if !strings.Contains(says, `"ü/b" node`) || !strings.Contains(says, `"ü/c" isn't in it`) {
		t.Errorf("of %q it says\n%s", paths, says)
	}
}
