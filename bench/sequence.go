package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// sequence is a tree and what happens to it.
type sequence struct {
	name  string
	make  func(o options, src string) (what string, err error)
	steps []step
	// drop removes all after each program: many bytes, and few inodes.
	drop bool
	// run takes a pair through something that only repld does, in place of make and
	// steps. It is run only if -case names it.
	run func(ctx context.Context, o options, at places, r *results, notes io.Writer) error
}

// step is one change.
type step struct {
	name   string
	change func(o options, src string, n int) error
	// times is how often it is made, each measured by itself, the median is the result;
	// nil: once.
	times func(o options) int
}

var sequences = []sequence{
	{name: "small", make: smallTree, steps: []step{
		{name: "one small file changed", change: changeOne},
		{name: "the same, several in a row, median", change: changeOne, times: func(o options) int { return o.changes }},
		{name: "directory renamed", change: renameDir},
		{name: "directory copied", change: copyDir},
	}},
	{name: "big", make: bigFile, drop: true, steps: []step{
		{name: "4 KiB of it overwritten", change: overwrite},
		{name: "1,000 bytes inserted at its front", change: insert},
	}},
	{name: "rejoin", run: rejoin},
	{name: "wal", run: wal},
	{name: "replayed", run: replayed},
}

// places are where a sequence is run; nothing is there yet. State is for
// configuration and state of the programs, on either side.
type places struct{ src, dst, srcState, dstState string }

// remove removes them, with what a standby keeps beside its tree.
func (at places) remove() (err error) {
	for _, dir := range []string{filepath.Dir(at.src), filepath.Dir(at.dst), at.srcState, at.dstState} {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// runSequence takes one program through a sequence. The trees of many files stay
// until all is measured: ext4 searches long for inodes when many were deleted within
// the last minute, and so whoever comes next would pay for it.
func runSequence(ctx context.Context, o options, seq sequence, kind sideKind, at places, r *results, notes io.Writer) (err error) {
	src, dst := at.src, at.dst
	for _, d := range []string{src, dst, at.srcState, at.dstState} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if seq.run != nil {
		return seq.run(ctx, o, at, r, notes)
	}
	what, err := seq.make(o, src)
	if err != nil {
		return err
	}
	s, err := kind.start(ctx, o, seq.name, at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	measured := func(name string, changed func() error) error {
		took, err := measure(ctx, s, dst, changed)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.add(seq.name, name, kind.name, took)
		fmt.Fprintf(notes, "  %-40s %8.2f s  CPU %7.2f s  wire %11d  peak %4d/%-4d MiB  journals %d\n", name, took.Seconds, took.CPU, took.Wire,
			took.SenderPeak>>20, took.ReceiverPeak>>20, took.Journal)
		return nil
	}
	if err := measured("seed: "+what, func() error { return nil }); err != nil {
		return err
	}
	if o.seeds {
		return compare(ctx, src, dst)
	}
	n := 0
	for _, st := range seq.steps {
		times := 1
		if st.times != nil {
			times = st.times(o)
		}
		for range times {
			n++
			if err := measured(st.name, func() error { return st.change(o, src, n) }); err != nil {
				return err
			}
		}
	}
	return compare(ctx, src, dst)
}

// measure changes the source and times how long the destination takes to follow,
// durably.
func measure(ctx context.Context, s side, dst string, change func() error) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// What was written before is not part of it.
	if err := syncFS(dst); err != nil {
		return sample{}, err
	}
	m := newMeter(s)
	if err := change(); err != nil {
		return sample{}, err
	}
	start := time.Now()
	if err := s.bring(ctx); err != nil {
		return sample{}, err
	}
	if err := syncFS(dst); err != nil {
		return sample{}, err
	}
	took := time.Since(start)
	got, err := m.end()
	got.Seconds = took.Seconds()
	return got, err
}

func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// compare lets rsync say whether the trees are equal, by content.
func compare(ctx context.Context, src, dst string) error {
	out, err := exec.CommandContext(ctx, "rsync", "-aHAXSn", "--numeric-ids", "--checksum", "--modify-window=-1", "--delete", "-i", src+"/", dst+"/").CombinedOutput()
	if err != nil {
		return fmt.Errorf("compare the trees: %w\n%s", err, out)
	}
	if len(out) > 0 {
		return fmt.Errorf("the trees are not equal; the first differences: %.500s", out)
	}
	return nil
}
