package layers

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "repld"

// layers are the packages from the bottom to the top. Code of a layer imports
// lower layers only; packages in one layer don't know each other. A package
// stands for those below its folder too, unless they are listed themselves.
var layers = [][]string{
	{"change", "durable", "durable/boltproof", "notify", "program", "lease/timing", "internal/testfs", "internal/pairtest"},
	{"health"},
	{"watch", "tree", "freeze", "chunker", "journal", "journal/catalog", "wire", "config"},
	{"dblog", "dblog/spool", "dblog/gatefile"},
	{"dblog/condition", "dblog/dblogtest"},
	{"capture", "apply", "alert", "dblog/postgres", "dblog/postgres/postgrestest", "dblog/binlog", "dblog/binlog/binlogtest", "dblog/exec", "dblog/redis", "role", "hook", "lease", "parity"},
	{"ready"},
	{"ship", "control", "preflight"},
	{"daemon", "demo"},
	{"cmd", "bench"},
	{"internal/layers", "internal/e2e", "packaging"},
}

// why says what a broken rule costs; every message ends with it.
const why = "imports point down, so that every package can be understood, tested and simulated without those above it; " +
	"a package that the table in layers_test.go does not list has no place yet: give it one"

// confined are modules with the only packages that may use them.
var confined = map[string]struct {
	to  []string
	why string
}{
	"github.com/quic-go/quic-go":            {[]string{"wire"}, "the transport can be replaced only while nobody else knows it"},
	"github.com/spf13/cobra":                {[]string{"cmd"}, "command lines are the programs' business"},
	"github.com/fsnotify/fsnotify":          {[]string{"watch"}, "the other packages get dirty sets, not events"},
	"github.com/klauspost/compress":         {[]string{"journal", "dblog/spool"}, "chunks and frames travel as they stand on disk"},
	"github.com/jackc/pgx/v5":               {[]string{"dblog/postgres", "dblog/postgres/postgrestest", "internal/pairtest", "bench"}, "the other packages know positions and bytes, not engines"},
	"github.com/go-sql-driver/mysql":        {[]string{"dblog/binlog", "dblog/binlog/binlogtest", "internal/pairtest"}, "the other packages know positions and bytes, not engines"},
	"github.com/coreos/go-systemd/v22":      {[]string{"notify", "hook"}, "the daemon's own state is told in one place, units are started and stopped in another"},
	"github.com/godbus/dbus/v5":             {[]string{"hook"}, "units are started and stopped in one place"},
	"github.com/vishvananda/netlink":        {[]string{"hook"}, "addresses are moved in one place"},
	"github.com/miekg/dns":                  {[]string{"hook"}, "names are moved in one place"},
	"go.etcd.io/etcd":                       {[]string{"lease"}, "who decides which node may serve is asked in one place"},
	"google.golang.org/grpc":                {[]string{"lease"}, "it is the transport of etcd's client"},
	"go.uber.org/zap":                       {[]string{"lease"}, "etcd's client wants one; our log is log/slog"},
	"modernc.org/sqlite":                    {[]string{"demo", "internal/pairtest"}, "files are all that is replicated; the demo's application and the checker of tests have a database in theirs"},
	"github.com/prometheus/client_golang":   {[]string{"control"}, "the other packages say what they know in their own words; only the endpoint speaks Prometheus'"},
	"github.com/PlakarKorp/go-cdc-chunkers": {nil, "it is the peer that benchmarks compare with"},
	"github.com/rogpeppe/go-internal":       {nil, "it is for tests"},
	"go.uber.org/goleak":                    {nil, "it is for tests"},
	"pgregory.net/rapid":                    {nil, "it is for tests"},
	module + "/internal/testfs":             {[]string{"dblog/dblogtest", "dblog/postgres/postgrestest", "dblog/binlog/binlogtest"}, "it is for tests"},
}

// badNames name no purpose, so everything ends up in them.
var badNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "pkg", "types", "shared", "lib"}

// source is one Go file of the module.
type source struct {
	path string // from the module's root
	dir  string
	test bool
	file *ast.File
	fset *token.FileSet
}

func (s *source) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(pos).Line)
}

func (s *source) imports(yield func(path, at string) bool) {
	for _, spec := range s.file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err == nil && !yield(path, s.at(spec.Pos())) {
			return
		}
	}
}

func load(t *testing.T) []source {
	t.Helper()
	const root = "../.."
	var sources []source
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "tmp") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		sources = append(sources, source{
			path: rel, dir: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(rel, "_test.go"), file: file, fset: fset,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) < 20 {
		t.Fatalf("found %d Go files: this is not the module", len(sources))
	}
	return sources
}

// place returns the layer of a package and the entry of the table that stands for it.
func place(dir string) (layer int, entry string, ok bool) {
	for i, entries := range layers {
		for _, e := range entries {
			if (dir == e || strings.HasPrefix(dir, e+"/")) && len(e) > len(entry) {
				layer, entry, ok = i, e, true
			}
		}
	}
	return layer, entry, ok
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range load(t) {
		layer, entry, ok := place(s.dir)
		if !ok {
			t.Errorf("%s: package %s has no layer: %s", s.path, s.dir, why)
			continue
		}
		for path, at := range s.imports {
			target, internal := strings.CutPrefix(path, module+"/")
			if !internal {
				continue
			}
			below, other, known := place(target)
			switch {
			case !known:
				t.Errorf("%s: imports %s, which has no layer: %s", at, target, why)
			case entry == other: // the parts of one component
			case below < layer:
			case below == layer && s.test: // tests may put neighbours together
			default:
				t.Errorf("%s: %s (layer %d) imports %s (layer %d): %s", at, s.dir, layer, target, below, why)
			}
		}
	}
}

func TestVocabularyIsStandardLibraryOnly(t *testing.T) {
	for _, s := range load(t) {
		if s.dir != "change" && s.dir != "durable" || s.test {
			continue
		}
		for path, at := range s.imports {
			if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") || first == module {
				t.Errorf("%s: %s imports %s: what everybody imports must bring nothing along", at, s.dir, path)
			}
		}
	}
}

func TestConfinedModules(t *testing.T) {
	for _, s := range load(t) {
		_, entry, _ := place(s.dir)
		for path, at := range s.imports {
			for mod, rule := range confined {
				if (path == mod || strings.HasPrefix(path, mod+"/")) && !s.test && !slices.Contains(rule.to, entry) {
					t.Errorf("%s: %s imports %s, which is for %q only: %s", at, s.dir, path, rule.to, rule.why)
				}
			}
		}
	}
}

func TestOnlyMainExits(t *testing.T) {
	for _, s := range load(t) {
		if s.test || s.file.Name.Name == "main" && (strings.HasPrefix(s.dir, "cmd/") || s.dir == "bench" || strings.HasPrefix(s.dir, "bench/")) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			if pkg.Name == "os" && sel.Sel.Name == "Exit" || pkg.Name == "log" && strings.HasPrefix(sel.Sel.Name, "Fatal") {
				t.Errorf("%s: %s.%s: only main packages under cmd and bench exit, because elsewhere no deferred close would run", s.at(n.Pos()), pkg.Name, sel.Sel.Name)
			}
			return true
		})
	}
}

func TestPackageNames(t *testing.T) {
	for _, s := range load(t) {
		for part := range strings.SplitSeq(s.dir, "/") {
			if slices.Contains(badNames, part) || slices.Contains(badNames, s.file.Name.Name) {
				t.Errorf("%s: %q says nothing about what is in it: put the code beside its only user, or find its real name", s.path, part)
				break
			}
		}
	}
}

func TestEveryPackageHasADoc(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range load(t) {
		if s.test {
			continue
		}
		text := s.file.Doc.Text()
		documented[s.dir] = documented[s.dir] || strings.HasPrefix(text, "Package ") || strings.HasPrefix(text, "Command ")
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package %s has no doc: it says where the package stands on the data's way, what holds in it, and what it does not promise", dir)
		}
	}
}
