package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"repld/internal/testfs"
)

// TestProof follows a Go toolchain in which the compiler works while it is seeded,
// and git, directory swaps and removals after that, with both sides killed in
// between. It takes minutes and is run by make proof.
func TestProof(t *testing.T) {
	if os.Getenv("REPLD_PROOF") == "" {
		t.Skip("set REPLD_PROOF, or call make proof")
	}
	testfs.NeedRoot(t)
	testfs.NeedProgram(t, "git", "git")
	testfs.NeedProgram(t, "rsync", "rsync")
	p := &pair{t: t, dir: tempDir(t)}
	p.from, p.to = p.dir+"/from", p.dir+"/to"
	mkdirs(t, p.to)
	root := strings.TrimSpace(must(t, "", "go", "env", "GOROOT"))
	must(t, "", "cp", "-a", root, p.from)
	stage := stopwatch(t)
	stage("copied " + root)

	compile := inTree(t, p.from, "bin/go", "build", "-a", "std")
	p.start(1)
	<-time.After(2 * time.Second)
	p.standby.restart(t) // in the middle of the seed
	<-time.After(2 * time.Second)
	p.primary.restart(t)
	if err := compile.Wait(); err != nil {
		t.Fatalf("go build: %v", err)
	}
	stage("the compiler is done")
	p.proven()
	stage("equal after the seed")

	// A second compilation, followed live.
	compile = inTree(t, p.from, "bin/go", "build", "-a", "cmd/compile/...")
	for range 3 {
		<-time.After(3 * time.Second)
		p.primary.must("barrier", "--wait", "applied", "--timeout", "5m")
	}
	if err := compile.Wait(); err != nil {
		t.Fatalf("go build: %v", err)
	}
	p.proven()
	stage("equal after a compilation")

	git := func(args ...string) {
		t.Helper()
		must(t, p.from, append([]string{"git", "-C", "src", "-c", "user.name=a", "-c", "user.email=a@example.net", "-c", "gc.auto=0"}, args...)...)
	}
	git("init", "-q")
	git("add", "cmd", "net", "os")
	git("commit", "-q", "-m", "one")
	p.standby.restart(t)
	must(t, p.from, "git", "clone", "-q", "--no-hardlinks", "src", "clone")
	p.primary.restart(t)
	must(t, p.from, "git", "clone", "-q", "src", "linked") // its objects are hard links
	p.proven()
	stage("equal after git clone")

	must(t, p.from, "rm", "-r", "src/cmd/compile", "clone/net")
	git("add", "-A", "cmd")
	git("commit", "-q", "-m", "two")
	p.standby.kill()
	git("gc", "-q", "--aggressive", "--prune=now")
	p.standby.start()
	must(t, p.from, "git", "-C", "clone", "checkout", "-q", "--", ".")
	exchange(t, p.from+"/linked", p.from+"/clone")
	exchange(t, p.from+"/src/net", p.from+"/pkg")
	p.primary.kill()
	exchange(t, p.from+"/src/os", p.from+"/linked/cmd")
	must(t, p.from, "rm", "-r", "test", "clone/.git")
	p.primary.start()
	exchange(t, p.from+"/src/os", p.from+"/linked/os")
	must(t, p.from, "cp", "-a", "src", "copy")
	must(t, p.from, "mv", "copy", "lib/moved")
	p.primary.up()
	p.proven()
	stage("equal after git gc, swaps and rm -r")

	// Nothing crossed the link twice: what a pair of fresh sessions sends is little.
	p.standby.restart(t)
	p.primary.restart(t)
	p.proven()
	s, err := p.primary.status()
	if err != nil {
		t.Fatal(err)
	}
	if sent := s.Groups[0].Sent.Bytes; sent > 1<<20 {
		t.Errorf("%d bytes crossed the link after nothing but a restart", sent)
	}
}

// proven waits for one barrier and compares by rsync alone, as an operator would.
func (p *pair) proven() {
	p.t.Helper()
	p.standby.up()
	p.primary.up()
	p.linked()
	p.primary.must("barrier", "--wait", "applied", "--timeout", "10m")
	if out := rsyncDifference(p.t, p.from, p.to); out != "" {
		p.t.Fatalf("rsync finds differences:\n%.4000s", out)
	}
}

func exchange(t *testing.T, a, b string) {
	t.Helper()
	if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
		t.Fatalf("exchange %s and %s: %v", a, b, err)
	}
}

// inTree starts a program of the toolchain in the tree, with its cache inside.
func inTree(t *testing.T, root string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(filepath.Join(root, args[0]), args[1:]...)
	cmd.Dir = filepath.Join(root, "src")
	cmd.Env = append(os.Environ(), "GOROOT="+root, "GOCACHE="+root+"/cache", "GOTOOLCHAIN=local", "GOFLAGS=")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// stopwatch tells how long each stage took.
func stopwatch(t *testing.T) func(string) {
	last := time.Now()
	return func(stage string) {
		t.Logf("%6.1f s  %s", time.Since(last).Seconds(), stage)
		last = time.Now()
	}
}
