package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"repld/change"
	"repld/health"
	"repld/tree"
)

// TestRun: barriers are applied as they come, with reads going on beside.
func TestRun(t *testing.T) {
	p := newPrimary(t)
	p.files("a", 20)
	s := seeded(t, p)
	applied := make(chan change.BarrierID, 100)
	s.o.OnApplied = func(c change.Certificate, _ change.LogPosition) { applied <- c.ID }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for i := range 10 {
		p.write(fmt.Sprintf("a/%d/new", i%7), fmt.Sprint(i))
		b := p.barrier()
		s.receive(p)
		s.Notify()
		if _, err := s.Verify(ctx, VerifyOptions{}); err != nil {
			t.Error(err)
		}
		for id := (change.BarrierID{}); id != b.ID; {
			select {
			case id = <-applied:
			case <-time.After(time.Minute):
				t.Fatal("nothing was applied")
			}
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("run ended with %v", err)
	}
	same(t, p, s)
}

// TestPausedHalfway: a barrier that was committed is finished, paused or not.
func TestPausedHalfway(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "a")
	s := seeded(t, p)
	stop := true
	s.reopen(nil, func(point string) error {
		if stop && point == PointDetached {
			return errCrash
		}
		return nil
	})
	p.mv("a", "b")
	p.barrier()
	s.receive(p)
	if err := s.Step(t.Context()); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	stop = false
	must(t, s.Pause(t.Context()))
	must(t, s.Step(t.Context()))
	same(t, p, s)

	must(t, s.Resume(false))
	stop = true
	p.mv("b", "c")
	p.barrier()
	s.receive(p)
	if err := s.Step(t.Context()); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	stop = false
	report, err := s.Verify(t.Context(), VerifyOptions{Repair: true}) // not of a tree between two barriers
	must(t, err)
	if report.Count != 0 {
		t.Errorf("verify: %+v", report)
	}
	same(t, p, s)
}

// TestWrongDigest: a barrier whose records make another tree isn't published, and
// a new base mends it.
func TestWrongDigest(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "a")
	s := seeded(t, p)
	want := listing(t, s.dir)
	asked := false
	s.o.OnNeedsSeed = func() { asked = true }
	must(t, s.log.SetIncarnation(change.NewIncarnation()))
	_, err := s.log.Append(&change.Unlink{Parent: p.root, Name: "a"})
	must(t, err)
	_, err = s.log.Append(&change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: 50}, Tree: change.Digest{1}}})
	must(t, err)
	must(t, s.log.Sync())
	if err := s.Step(t.Context()); !errors.Is(err, ErrNeedsSeed) {
		t.Fatalf("step: %v", err)
	}
	if !asked || !s.NeedsSeed() || !s.has(health.GuardHalted) {
		t.Error("no new base is asked for")
	}
	if got := listing(t, s.dir); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Error("the tree was changed")
	}
	seed(t, p, s)
	if s.NeedsSeed() || s.has(health.GuardHalted) {
		t.Error("still asking for a base")
	}
}

// TestSmallTransactions: a barrier takes any number of transactions, also where
// more vanishes with it than one of them takes away.
func TestSmallTransactions(t *testing.T) {
	defer func(records, refs int) { replayRecords, replayRefs = records, refs }(replayRecords, replayRefs)
	replayRecords, replayRefs = 7, 3
	p := newPrimary(t)
	p.write("big", string(noise(1, 3<<20)))
	must(t, os.Mkdir(p.at("dir"), 0o755))
	for i := range 20 {
		p.write(fmt.Sprint("dir/", i), fmt.Sprint(i))
	}
	s := seeded(t, p)
	for round := range uint64(3) {
		p.write("new", string(noise(2+round, 3<<20)))
		must(t, os.Rename(p.at("new"), p.at("big")))
		must(t, os.RemoveAll(p.at("dir")))
		p.barrier()
		must(t, os.Mkdir(p.at("dir"), 0o755))
		p.write("dir/another", fmt.Sprint(round))
		p.barrier()
		s.receive(p)
		must(t, s.Step(t.Context()))
		same(t, p, s)
	}
}

// TestDiskFull: the tree stays as it was, and the barrier is applied when there is
// room again.
func TestDiskFull(t *testing.T) {
	p := newPrimary(t)
	p.write("a", "a")
	s := seeded(t, p)
	want := listing(t, s.dir)
	full := true
	s.reopen(func(op tree.Op) error {
		if full && op.Name == "write" {
			return syscall.ENOSPC
		}
		return nil
	}, nil)
	p.write("a", "b")
	p.barrier()
	s.receive(p)
	if err := s.Step(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("step: %v", err)
	}
	if !s.has(health.DiskLow) {
		t.Error("no disk-low condition")
	}
	if got := listing(t, s.dir); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Error("the tree was changed")
	}
	full = false
	must(t, s.Step(t.Context()))
	same(t, p, s)
	if s.has(health.DiskLow) {
		t.Error("disk-low stands")
	}
}

// TestUnprivileged runs the tests that make sense without root as nobody.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("all tests run without privileges already")
	}
	exe, err := os.Executable()
	must(t, err)
	// /tmp/TestX belongs to root: nobody gets a directory and a program of his own.
	dir, err := os.MkdirTemp("", "nobody")
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	run(t, "cp", exe, filepath.Join(dir, "apply.test"))
	tmp := filepath.Join(dir, "tmp")
	must(t, os.Mkdir(tmp, 0o700))
	must(t, os.Chown(tmp, 65534, 65534))
	cmd := exec.Command(filepath.Join(dir, "apply.test"), "-test.run", "TestSeedAndFollow|TestCrashAtPoints|TestVerify|TestForeignWrites|TestSeedOverCopy")
	cmd.Dir = tmp
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "HOME="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}
