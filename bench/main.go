package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	bin     string // directory of repld
	work    string // directory to make a working directory in, with the sources
	to      string // the same for the destinations
	files   string // a directory whose copies are the small files
	copies  int
	big     int64 // bytes
	wal     int64 // bytes
	length  time.Duration
	rounds  int
	changes int    // of one small file in a row
	only    string // name of a sequence; "" = all
	sides   string // name of a program; "" = both
	seeds   bool   // no changes after the seed
	json    string // file for the samples
	profile string // directory for profiles of the daemons
	limit   time.Duration
}

// patience bounds a single measurement.
const patience = 20 * time.Minute

func main() { os.Exit(mainExit()) }

func mainExit() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	code, alone := isolate()
	if alone {
		return code
	}
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func parse(args []string) (options, error) {
	var o options
	var quick bool
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.bin, "bin", "bin", "`directory` of the program repld")
	f.StringVar(&o.work, "work", os.TempDir(), "`directory` on the file system of the sources, with room for four times the input in each round")
	f.StringVar(&o.to, "to", "", "`directory` on the file system of the destinations (default that of -work), with as much room")
	f.StringVar(&o.files, "files", filepath.Join(goroot(), "src"), "`directory` whose copies are the small files")
	f.IntVar(&o.copies, "copies", 4, "`number` of copies of them, at least two")
	f.Int64Var(&o.big, "big", 2<<30, "`bytes` of the large file")
	f.Int64Var(&o.wal, "wal", 512<<20, "`bytes` of a database's log, at least")
	f.DurationVar(&o.length, "for", 20*time.Second, "`time` of each measurement of the sequence replayed")
	f.IntVar(&o.rounds, "rounds", 1, "`number` of times that each sequence is run with each program")
	f.IntVar(&o.changes, "changes", 15, "`number` of changes of one small file in a row")
	f.StringVar(&o.only, "case", "", "only this `sequence`: small, big, rejoin, wal or replayed")
	f.StringVar(&o.sides, "side", "", "only this `program`: rsync or repld")
	f.BoolVar(&o.seeds, "seed", false, "only the seed of each sequence, so that a profile shows nothing else")
	f.StringVar(&o.json, "json", "", "`file` for all samples")
	f.StringVar(&o.profile, "profile", "", "`directory` for profiles of the daemons")
	f.DurationVar(&o.limit, "timeout", 2*time.Hour, "`time` after which everything is given up")
	f.BoolVar(&quick, "quick", false, "small inputs: a check of the harness, no measurement")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if quick {
		o.files, o.big, o.changes, o.wal, o.length = filepath.Join(goroot(), "src", "encoding"), 16<<20, 3, 32<<20, 2*time.Second
	}
	if o.to == "" {
		o.to = o.work
	}
	if o.copies < 2 || o.rounds < 1 || o.changes < 1 || o.big < 1<<20 {
		err := errors.New("want at least -copies 2, -rounds 1, -changes 1 and -big 1048576")
		fmt.Fprintln(os.Stderr, "bench:", err)
		return o, err
	}
	return o, nil
}

// run measures, and writes the table to out and its progress to notes.
func run(ctx context.Context, o options, out, notes io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	work, err := os.MkdirTemp(o.work, "repld-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	to, err := os.MkdirTemp(o.to, "repld-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(to)) }()
	r := &results{started: time.Now(), options: o}
	for round := range o.rounds {
		for _, seq := range sequences {
			if o.only != "" && o.only != seq.name || o.only == "" && seq.run != nil {
				continue
			}
			// Who is first changes: the disk is not the same after the other.
			order := slices.Clone(sides)
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, kind := range order {
				if o.sides != "" && o.sides != kind.name || seq.run != nil && kind.name != "repld" {
					continue
				}
				name := fmt.Sprintf("%s-%s-%d", seq.name, kind.name, round)
				at := places{filepath.Join(work, name, "tree"), filepath.Join(to, name, "tree"), filepath.Join(work, name+"-state"), filepath.Join(to, name+"-state")}
				fmt.Fprintf(notes, "round %d of %d: %s with %s\n", round+1, o.rounds, seq.name, kind.name)
				if err := runSequence(ctx, o, seq, kind, at, r, notes); err != nil {
					return fmt.Errorf("%s with %s: %w", seq.name, kind.name, err)
				}
				if seq.drop {
					if err := at.remove(); err != nil {
						return err
					}
				}
			}
		}
	}
	if o.json != "" {
		b, err := json.MarshalIndent(r.rows(), "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	return r.markdown(out)
}

// goroot returns the directory of the Go tool chain, which a binary built with
// -trimpath does not know.
func goroot() string {
	if dir := runtime.GOROOT(); dir != "" { //nolint:staticcheck // the usual case, without a process
		return dir
	}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "/usr/local/go"
	}
	return string(out[:max(0, len(out)-1)])
}
