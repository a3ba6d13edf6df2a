package cmd_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"repld/cmd/internal/replctl"
	"repld/cmd/internal/repld"
	"repld/control"
)

// patience is how long a script waits for something that must come.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	program := func(main func(ctx context.Context) control.Exit) func() {
		return func() {
			ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			os.Exit(int(main(ctx)))
		}
	}
	testscript.Main(m, map[string]func(){
		"repld": program(func(ctx context.Context) control.Exit {
			return repld.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
		}),
		"replctl": program(func(ctx context.Context) control.Exit {
			return replctl.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
		}),
	})
}

// TestScript runs the scripts. Besides testscript's own commands they have:
//
//	exits CODE PROGRAM ARGS…   runs a program that must end with this exit code
//	daemon [NAME=VALUE…]       starts a daemon that answers as told (see fakeDaemon) and points
//	                           $REPLCTL_SOCKET to it
//	await-call NAME            waits until the daemon is inside a call (barrier, verify, events)
//	exited CODE                the program that ran in the background during the last await-call, and was
//	                           waited for, must have ended with this exit code
//	await-socket PATH          waits until a daemon answers on a control socket
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":        exits,
			"daemon":       startFake,
			"await-call":   awaitCall,
			"exited":       exited,
			"await-socket": awaitSocket,
		},
		RequireExplicitExec: true,
		Deadline:            deadline(t),
	})
}

func deadline(t *testing.T) time.Time {
	d, _ := t.Deadline()
	return d
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func awaitSocket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await-socket PATH")
	}
	c := control.NewClient(ts.MkAbs(args[0]), control.ClientOptions{})
	defer c.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		_, err := c.Status(context.Background())
		if err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("no daemon within %s: %v", patience, err)
		}
	}
}
