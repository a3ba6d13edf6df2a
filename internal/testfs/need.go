package testfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Missing ends a test that lacks something: a failure with CI=true, else a skip.
// what is the need and the remedy: "needs rsync: install the package rsync".
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true, and this is missing: %s", what)
	}
	t.Skip(what)
}

// NeedRoot ends a test that isn't run as root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "needs root: run the tests as root")
	}
}

// NeedProgram returns the path of a program, which is looked for where root's are
// too. Without it the test ends and names the Debian package that has it.
func NeedProgram(t testing.TB, name, debian string) string {
	t.Helper()
	for _, at := range []string{name, filepath.Join("/usr/sbin", name), filepath.Join("/sbin", name)} {
		if path, err := exec.LookPath(at); err == nil {
			return path
		}
	}
	Missing(t, "needs "+name+": install the package "+debian)
	return ""
}
