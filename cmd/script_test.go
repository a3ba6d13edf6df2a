package cmd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
//	await-text FILE TEXT       waits until a file holds a line with the text
//	expand FILE…               replaces $NAME in files by the environment variables of the script
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // each program would end a second late
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":        exits,
			"daemon":       startFake,
			"await-call":   awaitCall,
			"exited":       exited,
			"await-socket": awaitSocket,
			"await-text":   awaitText,
			"expand":       expand,
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
	await(ts, "no daemon", func() error {
		_, err := c.Status(context.Background())
		return err
	})
}

func awaitText(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await-text FILE TEXT")
	}
	path := ts.MkAbs(args[0])
	await(ts, "no such text", func() error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if i := bytes.Index(b, []byte(args[1])); i < 0 || !bytes.Contains(b[i:], []byte("\n")) {
			return fmt.Errorf("%s holds %q", args[0], b)
		}
		return nil
	})
}

func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: expand FILE…")
	}
	for _, file := range args {
		text := os.Expand(ts.ReadFile(file), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
	}
}

// await calls f until it has no error.
func await(ts *testscript.TestScript, what string, f func() error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s within %s: %v", what, patience, err)
		}
	}
}
