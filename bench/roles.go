package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"repld/control"
	"repld/health"
)

// What the former primary has changed when it rejoins, and what the new one has.
const (
	divergedFiles = 100
	divergedOwn   = 20 // made, and as many removed
	changedSince  = 50
)

// rejoin takes a pair through its changes of roles: a cutover there and back, a
// failover, and the old primary's return with changes that nobody else has.
func rejoin(ctx context.Context, o options, at places, r *results, notes io.Writer) (err error) {
	what, err := smallTree(o, at.src)
	if err != nil {
		return err
	}
	started, err := startRepld(ctx, o, "rejoin", at)
	if err != nil {
		return err
	}
	s := started.(*repld)
	defer func() { err = errors.Join(err, s.stop()) }()
	measured := func(name string, do func() error) error {
		m := newMeter(s)
		begun := time.Now()
		if err := do(); err != nil {
			return fmt.Errorf("%s: %w\n%s\n%s", name, err, s.tail(atPrimary), s.tail(atStandby))
		}
		took := time.Since(begun)
		got, err := m.end()
		if err != nil {
			return err
		}
		got.Seconds = took.Seconds()
		r.add("rejoin", name, "repld", got)
		fmt.Fprintf(notes, "  %-52s %8.2f s  CPU %7.2f s  wire %11d  peak %4d/%-4d MiB\n", name, got.Seconds, got.CPU, got.Wire, got.SenderPeak>>20, got.ReceiverPeak>>20)
		return nil
	}
	change := func(place int, req control.RoleRequest) func() error {
		return func() error {
			_, err := s.clients[place].ChangeRole(ctx, req, nil)
			return err
		}
	}
	applied := func(place int) func() error {
		return func() error {
			return poll(ctx, 20*time.Millisecond, func() error {
				_, err := s.clients[place].Barrier(ctx, control.BarrierRequest{Wait: control.BarrierApplied})
				return err
			})
		}
	}
	steps := []struct {
		name string // "" is not measured
		do   func() error
	}{
		{"seed: " + what, func() error { return s.bring(ctx) }},
		{"cutover, until the peer serves", change(atPrimary, control.RoleRequest{Verb: control.VerbCutover})},
		{"until the former primary follows", applied(atStandby)},
		{"cutover back, until the peer serves", change(atStandby, control.RoleRequest{Verb: control.VerbCutover})},
		{"until the former primary follows, again", applied(atPrimary)},
		{"", func() error { return s.crash(ctx) }},
		{"", func() error { return diverge(at.src) }},
		{"failover, until this node serves", change(atStandby, control.RoleRequest{Verb: control.VerbFailover, PeerIsDown: true})},
		{"", func() error { return touch(filepath.Join(at.dst, copyName(1)), changedSince, "of the new primary") }},
		{"", func() error { return s.comeBack(ctx) }},
		{fmt.Sprintf("rejoin, %d files changed", divergedFiles), change(atPrimary, control.RoleRequest{Verb: control.VerbRejoin})},
		{"", applied(atStandby)},
		{"", func() error { return compare(ctx, at.dst, at.src) }},
	}
	for _, step := range steps {
		if step.name == "" {
			err = step.do()
		} else {
			err = measured(step.name, step.do)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// crash kills the primary's daemon and waits until the standby misses it.
func (s *repld) crash(ctx context.Context) error {
	if err := s.primary.cmd.Process.Kill(); err != nil {
		return err
	}
	<-s.primary.ended
	return poll(ctx, 20*time.Millisecond, func() error {
		status, err := s.clients[atStandby].Status(ctx)
		if err == nil && (status.Peer == nil || status.Peer.Link == control.LinkUp) {
			err = errors.New("the standby doesn't miss the primary")
		}
		return err
	})
}

// comeBack starts the primary's daemon again and waits until it has heard that it was
// fenced.
func (s *repld) comeBack(ctx context.Context) (err error) {
	if s.primary, err = s.daemon(atPrimary, s.src); err != nil {
		return err
	}
	s.sender.Store(int64(s.primary.pid()))
	return poll(ctx, 20*time.Millisecond, func() error {
		status, err := s.clients[atPrimary].Status(ctx)
		if err != nil {
			return err
		}
		for _, c := range status.Health {
			if c.Code == health.Fenced {
				return nil
			}
		}
		return fmt.Errorf("the old primary is %s: want it to be fenced", status.Status)
	})
}

// diverge changes, makes and removes files of a tree.
func diverge(src string) error {
	if err := touch(filepath.Join(src, copyName(0)), divergedFiles, "of the old primary"); err != nil {
		return err
	}
	for n := range divergedOwn {
		if err := os.WriteFile(filepath.Join(src, fmt.Sprintf("made-%d", n)), []byte("by the old primary"), 0o644); err != nil {
			return err
		}
	}
	left := divergedOwn
	return eachFile(filepath.Join(src, copyName(1)), func(path string) error {
		if left--; left < 0 {
			return fs.SkipAll
		}
		return os.Remove(path)
	})
}

// touch appends a text to some files below a directory, every few of them.
func touch(dir string, files int, text string) error {
	const every = 7
	n := 0
	return eachFile(dir, func(path string) error {
		if n++; n%every != 0 {
			return nil
		}
		if files--; files < 0 {
			return fs.SkipAll
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		return errors.Join(err, f.Close())
	})
}

// eachFile calls fn for the regular files below a directory, in the order of their names.
func eachFile(dir string, fn func(path string) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return fn(path)
	})
}
