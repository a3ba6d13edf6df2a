// Command cut measures barriers under continuous writing: how many there are, how long
// writers stand still for them, and what they cost the primary. It stands beside
// the data's way and drives package capture as the daemon does.
//
// Writers of package pairtest, in a process and a control group of their own, write
// files and rows of a PostgreSQL server without any rest, once with nobody watching, then
// under each way to a barrier for as long:
//
//	go run ./bench/cut -dsn "host=/run/postgresql user=postgres dbname=postgres"
//
// The tables pair0 and pair1 of that database are dropped and made anew. As root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"repld/capture"
	"repld/change"
	"repld/dblog/postgres"
	"repld/freeze"
	"repld/health"
	"repld/internal/pairtest"
	"repld/journal"
	"repld/journal/catalog"
	"repld/program"
	"repld/tree"
	"repld/watch"
)

// Commands of this program for itself.
const (
	roleLoad     = "load"
	roleWatchdog = "watchdog"
)

type options struct {
	dsn, work, cgroups string
	writers            int
	pace, length       time.Duration
}

// way is a way to a barrier.
type way struct {
	name          string
	watched       bool
	freeze, first bool
}

var ways = []way{
	{name: "nobody watches"},
	{name: "optimistic", watched: true},
	{name: "optimistic, cgroup", watched: true, freeze: true},
	{name: "cgroup", watched: true, freeze: true, first: true},
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "cut:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	flag.StringVar(&o.dsn, "dsn", "", "connection string of a PostgreSQL server; empty: files only")
	flag.StringVar(&o.work, "work", os.TempDir(), "`directory` for the tree and the journal")
	flag.StringVar(&o.cgroups, "cgroups", "", "`directory` where control groups (version 2) can be made (default where they are mounted)")
	flag.IntVar(&o.writers, "writers", 4, "`number` of writers")
	flag.DurationVar(&o.pace, "pace", 10*time.Millisecond, "`time` from one operation of a writer to its next, at least")
	flag.DurationVar(&o.length, "for", 30*time.Second, "`time` of each measurement")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch flag.Arg(0) {
	case roleWatchdog:
		return freeze.Watch(os.Stdin, os.Stdout)
	case roleLoad:
		return load(ctx, o)
	}
	dir, err := os.MkdirTemp(o.work, "repld-cut-")
	if err != nil {
		return err
	}
	o.work = dir
	defer os.RemoveAll(dir)
	fmt.Println("| quiesce | operations/s | barriers/min | apart p50 / p95 | late | frozen | stall p50 / p95 | CPU ms per barrier |")
	fmt.Println("|---|---:|---:|---:|---:|---:|---:|---:|")
	if err := program.Batch(); err != nil { // as the daemon is
		return err
	}
	for _, w := range ways {
		if err := measure(ctx, o, w); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

// load writes until it is told to end.
func load(ctx context.Context, o options) error {
	var database pairtest.Database = none{}
	if o.dsn != "" {
		p := pairtest.Postgres{DSN: o.dsn}
		if err := errors.Join(p.Exec(ctx, "DROP TABLE IF EXISTS pair0, pair1"), p.Create(ctx)); err != nil {
			return err
		}
		database = p
	}
	l, err := pairtest.Start(context.Background(), pairtest.Options{Dir: o.work, Database: database, Seed: 1, Writers: o.writers, Every: o.pace})
	if err != nil {
		return err
	}
	begun := time.Now()
	<-ctx.Done()
	err = l.Stop()
	fmt.Printf("%.0f\n", float64(l.Total())/time.Since(begun).Seconds())
	return err
}

// none is no database.
type none struct{}

func (none) Create(context.Context) error                             { return nil }
func (none) Session(context.Context, bool) (pairtest.Session, error)  { return none{}, nil }
func (none) Rows(context.Context) ([]pairtest.Row, error)             { return nil, nil }
func (none) Commit(context.Context, []pairtest.Row, int, int64) error { return nil }
func (none) Close()                                                   {}

// measure has the writers work for a while under a way to a barrier, and prints a line.
func measure(ctx context.Context, o options, w way) (err error) {
	dir := filepath.Join(o.work, strings.ReplaceAll(w.name, " ", ""))
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return err
	}
	if o.cgroups == "" {
		if o.cgroups, err = freeze.Root(); err != nil {
			return err
		}
	}
	cgroup, err := os.MkdirTemp(o.cgroups, "repld-cut-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, syscall.Rmdir(cgroup)) }()
	in, err := os.Open(cgroup)
	if err != nil {
		return err
	}
	defer in.Close()
	var out strings.Builder
	cmd := exec.Command("/proc/self/exe", "-dsn", o.dsn, "-work", tree, "-writers", fmt.Sprint(o.writers), "-pace", o.pace.String(), roleLoad)
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(in.Fd())}
	if err := program.Start(cmd); err != nil {
		return err
	}
	warm, end := context.WithTimeout(ctx, 3*time.Second)
	<-warm.Done()
	end()
	var seen result
	if w.watched {
		seen, err = watched(ctx, o, w, dir, tree, "/"+strings.TrimPrefix(strings.TrimPrefix(cgroup, o.cgroups), "/"))
	} else {
		alone, end := context.WithTimeout(ctx, o.length)
		<-alone.Done()
		end()
	}
	err = errors.Join(err, cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
	fmt.Printf("| %s | %s | %s |\n", w.name, strings.TrimSpace(out.String()), seen)
	return errors.Join(err, ctx.Err())
}

// result is what was seen of barriers.
type result struct {
	took         time.Duration
	at           []time.Time
	frozen, late int
	stalls       []time.Duration // of those that were frozen
	cpu          time.Duration
}

func (r result) String() string {
	if r.took == 0 {
		return "– | – | – | – | – | –"
	}
	var apart []time.Duration
	for i := 1; i < len(r.at); i++ {
		apart = append(apart, r.at[i].Sub(r.at[i-1]))
	}
	perBarrier := float64(r.cpu.Milliseconds()) / float64(max(len(r.at), 1))
	return fmt.Sprintf("%.0f | %s | %d | %d | %s | %.0f", float64(len(r.at))/r.took.Minutes(), quantiles(apart), r.late, r.frozen, quantiles(r.stalls), perBarrier)
}

func quantiles(list []time.Duration) string {
	if len(list) == 0 {
		return "–"
	}
	slices.Sort(list)
	at := func(q float64) time.Duration {
		return list[min(len(list)-1, int(q*float64(len(list))))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("%v / %v", at(0.5), at(0.95))
}

// freezer makes a [freeze.Freezer] one for package capture.
type freezer struct{ *freeze.Freezer }

// Freeze implements [capture.Freezer].
func (f freezer) Freeze() (capture.Frozen, error) {
	z, err := f.Freezer.Freeze()
	if err != nil {
		return nil, err
	}
	return z, nil
}

// watched cuts barriers of the tree for a while.
func watched(ctx context.Context, o options, w way, dir, path, group string) (r result, err error) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	root, err := tree.Open(path, tree.Options{})
	if err != nil {
		return r, err
	}
	defer root.Close()
	watcher, err := watch.New(watch.Options{Trees: []watch.Tree{{Name: "tree", Path: path}}, Logger: quiet})
	if err != nil {
		return r, err
	}
	defer watcher.Close()
	if err := os.Mkdir(filepath.Join(dir, "log"), 0o700); err != nil {
		return r, err
	}
	log, err := journal.Open(filepath.Join(dir, "log"), journal.Options{})
	if err != nil {
		return r, err
	}
	defer log.Close()
	cat, err := catalog.Open(filepath.Join(dir, "catalog"), catalog.Options{})
	if err != nil {
		return r, err
	}
	defer cat.Close()
	c := capture.Options{
		Group: "cut", Trees: []capture.Tree{{Name: "tree", Root: root}}, Watcher: watcher, Log: log, Catalog: cat, Epoch: 1,
		Clock: change.SystemClock(), Board: health.NewBoard(nil), Logger: quiet, BootID: "this", FreezeFirst: w.first,
		OnBarrier: func(b change.Barrier, oldest time.Duration) {
			r.at = append(r.at, time.Now())
			if change.SystemClock().Mono()-oldest > 2*time.Second {
				r.late++
			}
			if b.Rung == change.RungCgroup {
				r.frozen++
				r.stalls = append(r.stalls, b.Stall)
			}
		},
	}
	if o.dsn != "" {
		source, err := postgres.NewSource(postgres.SourceOptions{Name: "main", DSN: o.dsn, Slot: "cut"})
		if err != nil {
			return r, err
		}
		defer source.Close()
		c.Databases = []capture.Database{{Name: "main", Engine: change.EnginePostgres, Source: source}}
	}
	if w.freeze {
		f := freeze.New(freeze.Options{Group: group, Mark: filepath.Join(dir, "frozen"), Watchdog: []string{"/proc/self/exe", roleWatchdog}})
		defer f.Close()
		c.Freezer = freezer{f}
	}
	capturer, err := capture.New(c)
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.length)
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- watcher.Run(ctx) }()
	begun, before := time.Now(), cpu()
	err = capturer.Run(ctx)
	r.took, r.cpu = time.Since(begun), cpu()-before
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return r, errors.Join(err, <-ran)
}

// cpu is what this process has used so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
