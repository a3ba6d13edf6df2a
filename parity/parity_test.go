package parity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"repld/health"
)

// machine makes the files that facts are read from.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	all := map[string]string{
		"etc/os-release":                "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"sys/devices/system/cpu/online": "0-3,6\n",
		"proc/meminfo":                  "MemTotal:       16384000 kB\nMemFree: 1 kB\n",
	}
	maps.Copy(all, files)
	for path, text := range all {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestCollect(t *testing.T) {
	root := machine(t, map[string]string{
		"etc/apache2/apache2.conf": "conf\n", "etc/apache2/sites/shop.conf": "shop\n", "etc/other": "x", "etc/php/a.ini": "", "etc/php/b.txt": "",
	})
	if err := errors.Join(os.Symlink("../apache2.conf", root+"/etc/apache2/sites/link"), unix.Mkfifo(root+"/etc/apache2/fifo", 0o600)); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Node: "slayer", Root: root, Files: []string{"/etc/apache2/**", "/etc/php/*.ini", "/etc/none/**"},
		Commands:  [][]string{{"echo", "hello", "world"}, {"/bin/sh", "-c", "echo out; echo err >&2; exit 3"}, {"/none/php", "-v"}, {"sleep", "60"}},
		Timeout:   500 * time.Millisecond,
		Disks:     map[string]string{"tree a/b": root, "state": root + "/none"},
		Databases: map[string]map[string]string{"g/main": {"shared_buffers": "128MB"}}, Silent: map[string]error{"database g/other": errors.New("it is down")},
	}
	f := Collect(t.Context(), o)
	if f.Distribution != "Debian GNU/Linux 12 (bookworm)" || f.CPUs != 5 || f.Memory != 16384000<<10 || f.Kernel == "" || f.Architecture == "" || f.Disks["tree a/b"] == 0 {
		t.Errorf("found %+v", f)
	}
	wantFiles := map[string]string{
		"/etc/apache2/apache2.conf": "sha256:4ba9b1cfe4fdf7d8d1b3e2c1b0a4b3f6", "/etc/apache2/sites/shop.conf": "", "/etc/apache2/sites/link": "link:../apache2.conf",
		"/etc/php/a.ini": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	}
	if len(f.Files) != len(wantFiles) || f.Files["/etc/php/a.ini"] != wantFiles["/etc/php/a.ini"] || f.Files["/etc/apache2/sites/link"] != "link:../apache2.conf" ||
		!strings.HasPrefix(f.Files["/etc/apache2/apache2.conf"], "sha256:") || f.Files["/etc/apache2/apache2.conf"] == f.Files["/etc/apache2/sites/shop.conf"] {
		t.Errorf("found files %v", f.Files)
	}
	wantCommands := map[string]Output{"echo hello world": {0, "hello world"}, "/bin/sh -c echo out; echo err >&2; exit 3": {3, "out\nerr"}}
	if !maps.Equal(f.Commands, wantCommands) {
		t.Errorf("found commands %v", f.Commands)
	}
	for what, want := range map[string]string{"command /none/php -v": "no such file", "command sleep 60": "did not end within", "disk state": "no such file"} {
		if !strings.Contains(f.Unknown[what], want) {
			t.Errorf("%s: found %q, want %q", what, f.Unknown[what], want)
		}
	}
	if f.Unknown["database g/other"] != "it is down" {
		t.Errorf("found unknown %v", f.Unknown)
	}
	if f.Databases["g/main"]["shared_buffers"] != "128MB" {
		t.Errorf("found %v", f.Databases)
	}

	// The same state of the machine is the same bytes, and they can be read.
	o.Commands = o.Commands[:2]
	first, err := Collect(t.Context(), o).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	second, err := Collect(t.Context(), o).Marshal()
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("found\n%s\n%s\n%v", first, second, err)
	}
	again, err := Unmarshal(first)
	if err != nil || len(Compare(again, again)) != 2 { // the disk that isn't there, the silent database
		t.Errorf("found %v, %v", Compare(again, again), err)
	}
}

// Those of the system that the test runs on, by whatever manager it has.
func TestPackages(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nprintf 'ii kernel\\t1\\nrc gone\\t2\\nii kernel\\t3\\nii apache2:amd64\\t2.4-1\\n'\n"
	if err := os.WriteFile(dir+"/dpkg-query", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	f := Collect(t.Context(), Options{Root: machine(t, nil)})
	if want := map[string]string{"kernel": "1, 3", "apache2:amd64": "2.4-1"}; !maps.Equal(f.Packages, want) {
		t.Errorf("found %v, %v", f.Packages, f.Unknown)
	}
	if err := os.WriteFile(dir+"/dpkg-query", []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if f = Collect(t.Context(), Options{Root: machine(t, nil)}); f.Packages != nil || !strings.Contains(f.Unknown["packages"], "exit status 1") {
		t.Errorf("found %v, %v", f.Packages, f.Unknown)
	}
	t.Setenv("PATH", t.TempDir())
	if f = Collect(t.Context(), Options{Root: machine(t, nil)}); f.Packages != nil || f.Unknown["packages"] == "" {
		t.Errorf("found %v, %v", f.Packages, f.Unknown)
	}
}

func TestCollectEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := Collect(ctx, Options{Root: machine(t, map[string]string{"etc/a/b": "x"}), Files: []string{"/etc/a/*"}, Commands: [][]string{{"sleep", "60"}}})
	if f.Unknown["pattern /etc/a/*"] == "" || f.Unknown["command sleep 60"] == "" {
		t.Errorf("found %v", f.Unknown)
	}
}

func TestLimits(t *testing.T) {
	files := map[string]string{}
	for i := range 11 {
		files[fmt.Sprintf("etc/many/%04d", i)] = ""
	}
	f := Collect(t.Context(), Options{Root: machine(t, files), Files: []string{"/etc/many/*"}, maxFiles: 10})
	if len(f.Files) != 10 || !strings.Contains(f.Unknown["pattern /etc/many/*"], "more than 10 files") {
		t.Errorf("found %d files, %v", len(f.Files), f.Unknown)
	}
	if _, err := Unmarshal(make([]byte, MaxSize+1)); err == nil {
		t.Error("accepted facts over the limit")
	}
	if _, err := Unmarshal([]byte(`{"format":2}`)); !errors.Is(err, ErrFormat) {
		t.Errorf("found %v", err)
	}
	if _, err := Unmarshal([]byte(`[]`)); err == nil {
		t.Error("accepted what are no facts")
	}
	huge := &Facts{Format: Format, Packages: map[string]string{}}
	for i := range MaxPackages {
		huge.Packages[fmt.Sprint(i)] = strings.Repeat("x", 200)
	}
	if _, err := huge.Marshal(); err == nil {
		t.Error("wrote facts over the limit")
	}
}

func TestCompare(t *testing.T) {
	base := func() *Facts {
		return &Facts{
			Format: Format, Node: "slayer", Kernel: "6.1", Distribution: "Debian 12", Architecture: "x86_64", CPUs: 8, Memory: 16 << 30,
			Disks:    map[string]uint64{"state": 100 << 30},
			Packages: map[string]string{"apache2": "2.4", "php": "8.2"}, Files: map[string]string{"/etc/a": "sha256:0123456789abcdef0", "/etc/b": "sha256:11"},
			Commands: map[string]Output{"php -v": {0, "PHP 8.2\nmore"}}, Databases: map[string]map[string]string{"g/main": {"shared_buffers": "128MB", "port": "5432",
				"max_worker_processes": "8", "max_connections": "100", "shared_preload_libraries": ""}},
		}
	}
	if d := Compare(base(), base()); len(d) != 0 {
		t.Errorf("the same: %+v", d)
	}
	other := base()
	other.Node, other.Kernel, other.Distribution, other.Architecture, other.CPUs = "megadeth", "6.12", "Debian 13", "aarch64", 4
	other.Memory, other.Disks["state"] = 16<<30-100<<20, 50<<30 // nearly the same memory
	other.Packages = map[string]string{"apache2": "2.5", "vim": "9"}
	other.Files = map[string]string{"/etc/a": "sha256:ff", "/etc/c": "link:x"}
	other.Unknown = map[string]string{"file /etc/b": "permission denied"}
	other.Commands["php -v"] = Output{127, "not found"}
	other.Databases["g/main"] = map[string]string{"shared_buffers": "1GB", "port": "5432", "max_worker_processes": "8", "max_connections": "50",
		"shared_preload_libraries": "auto_explain"}
	var found []string
	for _, d := range Compare(base(), other) {
		found = append(found, string(d.Severity)+" "+d.Text)
	}
	want := []string{
		"info kernel: 6.1 on slayer, 6.12 on megadeth",
		"warning distribution: Debian 12 on slayer, Debian 13 on megadeth",
		"warning architecture: x86_64 on slayer, aarch64 on megadeth",
		"info cpus: 8 on slayer, 4 on megadeth",
		"info disk state: 100.0 GiB on slayer, 50.0 GiB on megadeth",
		"info package apache2: 2.4 on slayer, 2.5 on megadeth",
		"warning package php: 8.2 on slayer, absent on megadeth",
		"warning package vim: absent on slayer, 9 on megadeth",
		"warning file /etc/a: sha256:0123456789ab on slayer, sha256:ff on megadeth",
		"warning file /etc/c: absent on slayer, link:x on megadeth",
		"warning command php -v: PHP 8.2… on slayer, exit 127: not found on megadeth",
		"warning parameter g/main max_connections: 100 on slayer, 50 on megadeth: a replica does not start with less than its primary has",
		"warning parameter g/main shared_buffers: 128MB on slayer, 1GB on megadeth",
		"warning parameter g/main shared_preload_libraries: empty on slayer, auto_explain on megadeth",
		"warning file /etc/b can't be compared: on megadeth: permission denied",
	}
	if strings.Join(found, "\n") != strings.Join(want, "\n") {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(found, "\n"), strings.Join(want, "\n"))
	}

	// What neither node could find out is no parity.
	a, b := base(), base()
	a.Unknown, b.Unknown = map[string]string{"packages": "none"}, map[string]string{"packages": "none"}
	if d := Compare(a, b); len(d) != 1 || d[0].What != "unknown" || d[0].Severity != health.Warning {
		t.Errorf("unknown on both: %+v", d)
	}
	many := base()
	for i := range 2 * MaxDifferences {
		many.Packages[fmt.Sprint(i)] = "1"
	}
	if d := Compare(base(), many); len(d) != MaxDifferences || d[len(d)-1].Text != "1,001 more differences" {
		t.Errorf("found %d, the last one %+v", len(d), d[len(d)-1])
	}
}
