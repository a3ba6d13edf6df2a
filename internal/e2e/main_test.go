package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"repld/dblog/binlog/binlogtest"
	"repld/dblog/postgres/postgrestest"
)

var seedFlag = flag.Uint64("seed", 0, "seed of a random test that is to be repeated; 0 = a new one")

// bin holds the programs under test.
var bin string

// patience is how long a test waits for something that must come. It is long
// because other packages' tests may run on the same cores.
const patience = 90 * time.Second

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serviceWord {
		os.Exit(serviceMain(os.Args[2:]))
	}
	if len(os.Args) == 2 && os.Args[1] == loadWord {
		os.Exit(loadMain())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	// For all programs that tests start. Without the last one each ends a second late.
	if err := os.Setenv("GORACE", "halt_on_error=1 exitcode=66 atexit_sleep_ms=0"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "repld-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Users without privileges must be able to run what is in it.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bin = dir
	args := []string{"build", "-race", "-tags", "faultpoints", "-o", dir, "repld/cmd/repld", "repld/cmd/replctl"}
	if os.Getenv("REPLD_PROOF") != "" { // as they are shipped
		args = append(args[:1], args[4:]...)
	}
	build := exec.Command("go", args...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
		return 1
	}
	defer binlogtest.Clean()
	return postgrestest.Main(m)
}
