package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"repld/change"
	"repld/control"
	"repld/internal/testfs"
	"repld/role"
)

// program is a repld without the race detector, which makes SQLite crawl.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "repld-demo-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // for users without privileges
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	program = filepath.Join(dir, "repld")
	build := exec.Command("go", "build", "-o", program, "repld/cmd/repld")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build repld: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// short are the settings of a demo that takes a few seconds.
func short(out *bytes.Buffer) Options {
	return Options{Executable: program, Stdout: out, Files: 200, Follow: 1500 * time.Millisecond, Rate: 100}
}

func TestDemoHoldsAndItsChecksCanFail(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	o := short(&out)
	o.Keep = filepath.Join(t.TempDir(), "kept")
	err := Run(t.Context(), o)
	t.Logf("\n%s", &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"RTO", "RPO 0 operations", "loss ledger", "peak memory", o.Keep} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table says nothing of %q", want)
		}
	}
	if n := strings.Count(out.String(), " held "); n != 18 {
		t.Errorf("%d checks held, want 18", n)
	}
	noneRuns(t, out.String(), 3)
	p := place{o.Keep}
	ledgerCanFail(t, p)
	said := lastBarrier(t, p)
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			said := *said
			undo := d.do(t, p, &said)
			failing(t, p, &said, d.want)
			undo() // else the next damage finds more than its own
		})
	}
	failing(t, p, lastBarrier(t, p), map[string]string{})
}

// ledgerCanFail gives the check of the ledger what must not hold with the one of a demo.
func ledgerCanFail(t *testing.T, p place) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.state(standbyName), "failovers", "2.json"))
	if err != nil {
		t.Fatal(err)
	}
	var l role.Ledger
	if err := json.Unmarshal(data, &l); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		barrier uint64
		stale   time.Duration
		holds   bool
	}{
		{l.Groups[0].Barrier.Seq, time.Second, true},
		{l.Groups[0].Barrier.Seq, 3 * time.Second, false},
		{l.Groups[0].Barrier.Seq - 1, time.Second, false},
	} {
		s := &story{place: p, said: &control.Barrier{ID: change.BarrierID{Epoch: 1, Seq: c.barrier}}}
		s.m.killed = l.Groups[0].CutAt.Add(2 * time.Second)
		s.m.failover = changed{lost: 1, stale: c.stale}
		if text, err := s.ledger(); (err == nil) != c.holds {
			t.Errorf("barrier %d, %s: %q, %v", c.barrier, c.stale, text, err)
		}
	}
}

func TestWhatWasHandedOver(t *testing.T) {
	before, after := &operations{}, &operations{}
	for _, line := range []string{fileFirst + " 4", fileFirst + " 5", rowFirst + " 7"} {
		before.line(line)
	}
	after.line(fileFirst + " 6")
	after.line(rowFirst + " 8")
	s := &story{done: after}
	if text, err := s.handedOver(before); err != nil || s.m.failback.lost != 0 {
		t.Errorf("%q, %v, %d lost", text, err, s.m.failback.lost)
	}
	before.line(rowFirst + " 8") // done before, and done again
	if _, err := s.handedOver(before); err == nil || !strings.Contains(err.Error(), "row-first had done operation 8") || s.m.failback.lost != 1 {
		t.Errorf("%v, %d lost, want 1", err, s.m.failback.lost)
	}
}

// An application that was interrupted finishes what it had begun, and goes on.
func TestTheApplicationGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	once := func(node string) *operations {
		done := &operations{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mu sync.Mutex
		err := Application(ctx, dir, node, 100, writerFunc(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			if done.line(strings.TrimSpace(string(b))); done.count() >= 10 {
				cancel()
			}
			return len(b), nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	first := once("here")
	_, lastRow := first.bounds(rowFirst)
	_, lastFile := first.bounds(fileFirst)
	if err := os.Remove(filepath.Join(dir, fileOf(rowFirst, lastRow))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileOf(fileFirst, lastFile+1)), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	second := once("there")
	for w, last := range map[string]uint64{rowFirst: lastRow, fileFirst: lastFile} {
		if base, _ := second.bounds(w); base != last {
			t.Errorf("%s goes on behind operation %d, want %d", w, base, last)
		}
	}
	db, err := openCopy(dir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, w := range writers {
		_, last := second.bounds(w)
		if found, err := compareRows(t.Context(), db, dir, w); err != nil || found.complete != last || found.inFlight != 0 {
			t.Errorf("%s: %+v, %v, want %d complete operations", w, found, err, last)
		}
	}
}

// lastBarrier is what the standby would say now.
func lastBarrier(t *testing.T, p place) *control.Barrier {
	t.Helper()
	i := &inspection{ctx: t.Context(), place: p, catalog: catalogOf(p)}
	// It can't be what was said; that it is found is what counts.
	if _, err := i.applied(&control.Barrier{}); i.barrier == nil {
		t.Fatal(err)
	}
	b := control.BarrierOf(*i.barrier)
	return &b
}

// failing wants exactly these checks to fail, and to say so much of why.
func failing(t *testing.T, p place, said *control.Barrier, want map[string]string) {
	t.Helper()
	f, err := inspect(t.Context(), p, catalogOf(p), said)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range f.checks {
		why, expected := want[c.name]
		switch {
		case expected != (c.err != nil):
			t.Errorf("%s: found %v, expected to fail: %v", c.name, c.err, expected)
		case expected && !strings.Contains(c.err.Error(), why):
			t.Errorf("%s: %q doesn't say %q", c.name, c.err, why)
		}
	}
	s := &story{finally: f.checks}
	if verdict := s.verdict(); (verdict != nil) != (len(want) > 0) {
		t.Errorf("verdict: %v", verdict)
	} else {
		for name := range want {
			if !strings.Contains(verdict.Error(), name) {
				t.Errorf("verdict %q doesn't name %q", verdict, name)
			}
		}
	}
}

func TestKeepWantsAnEmptyDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mine")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, keep := range []string{dir, file} {
		err := Run(t.Context(), Options{Executable: program, Keep: keep})
		if control.ExitOf(err) != control.ExitUsage {
			t.Errorf("--keep %s: %v, want wrong usage", keep, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v now, %v", entries, err)
	}
}

// An interrupted demo leaves neither files nor processes.
func TestInterrupted(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	o := short(&out)
	o.Follow = time.Hour
	o.Stdout = writerFunc(func(b []byte) (int, error) {
		if bytes.HasPrefix(b, []byte("following")) {
			cancel()
		}
		return out.Write(b)
	})
	if err := Run(ctx, o); control.ExitOf(err) != control.ExitInterrupted {
		t.Errorf("%v, want an interruption", err)
	}
	noneRuns(t, out.String(), 2)
	if entries, err := os.ReadDir(temp); err != nil || len(entries) > 0 {
		t.Errorf("found %v among temporary files, %v", entries, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// noneRuns wants the processes that a story names to have ended.
func noneRuns(t *testing.T, story string, want int) {
	t.Helper()
	found := regexp.MustCompile(`process (\d+)`).FindAllStringSubmatch(story, -1)
	if len(found) != want {
		t.Errorf("the story names %d processes, want %d", len(found), want)
	}
	for _, m := range found {
		pid, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d: %v, want none", pid, err)
		}
	}
}

func TestAProcessThatEndsIsNamed(t *testing.T) {
	err := Run(t.Context(), Options{Executable: "/bin/false", Files: 10})
	if err == nil || !strings.Contains(err.Error(), "the application ended by itself: exit status 1") {
		t.Errorf("%v", err)
	}
}

// Without privileges the daemons watch by inotify.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		testfs.Missing(t, "run as root: only root can become another user; the other tests have shown it without privileges")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "repld-demo-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "demo", "--keep", filepath.Join(dir, "kept"),
		"--files", "200", "--follow", "1500ms", "--rate", "100")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: syscall.SIGKILL}
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	t.Logf("\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(place{filepath.Join(dir, "kept")}.log(primaryName))
	if err != nil || !bytes.Contains(log, []byte(`"watching by"=inotify`)) {
		t.Errorf("the primary's log doesn't say that it watches by inotify: %v\n%s", err, log)
	}
}

func TestWhatMayBeInFlight(t *testing.T) {
	for _, c := range []struct {
		writer       string
		row, file    bool
		mayBePartial bool
	}{
		{fileFirst, false, true, true},
		{fileFirst, true, false, false},
		{fileFirst, true, true, false}, // the row says that the file was finished
		{rowFirst, true, false, true},
		{rowFirst, true, true, true}, // the file was being written
		{rowFirst, false, true, false},
	} {
		if got := mayBeInFlight(c.writer, c.row, c.file); got != c.mayBePartial {
			t.Errorf("%s, row %v, file %v: %v", c.writer, c.row, c.file, got)
		}
	}
}

func TestMissingOperations(t *testing.T) {
	var o operations
	for i := range 4 {
		o.line(fmt.Sprintf("%s %d", fileFirst, i+1))
	}
	o.line(rowFirst + " 1")
	killed := o.at[fileFirst][3].Add(time.Second)
	lost, stale := o.missing(map[string]uint64{fileFirst: 2, rowFirst: 1}, killed)
	if want := killed.Sub(o.at[fileFirst][2]); lost != 2 || stale != want {
		t.Errorf("lost %d, stale %s; want 2, %s", lost, stale, want)
	}
	if oldest, ok := o.oldestAfter(o.at[fileFirst][2]); !ok || slices.Index(o.at[fileFirst], oldest) < 2 {
		t.Errorf("the oldest is %s, %v", oldest, ok)
	}
}
