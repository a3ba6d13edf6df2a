package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// rsync is the peer: a client, and a daemon over loopback.
type rsync struct {
	address string
	src     string
	daemon  *process
	client  atomic.Int64 // process, 0: none
	started bool
	spent   time.Duration // by clients that have ended
}

func startRsync(ctx context.Context, _ options, _ string, at places) (side, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	l.Close()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(at.dstState, "rsyncd.conf")
	text := fmt.Sprintf("use chroot = no\naddress = 127.0.0.1\nport = %s\n", port)
	if os.Getuid() == 0 {
		text += "uid = root\ngid = root\n"
	}
	text += fmt.Sprintf("[tree]\npath = %s\nread only = no\nnumeric ids = yes\n", at.dst)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	s := &rsync{address: address, src: at.src}
	if s.daemon, err = startProcess(os.Stderr, os.Stderr, "rsync", "--daemon", "--no-detach", "--config="+config); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = poll(ctx, 10*time.Millisecond, func() error {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	})
	if err != nil {
		s.daemon.terminate()
		return nil, fmt.Errorf("the rsync daemon doesn't answer: %w", err)
	}
	return s, nil
}

func (s *rsync) bring(ctx context.Context) error {
	// By default rsync compares times in whole seconds, and misses a change of the same
	// size in the same second.
	args := []string{"-aHAXS", "--modify-window=-1"}
	if s.started {
		args = append(args, "--delete")
	}
	s.started = true
	args = append(args, s.src+"/", "rsync://"+s.address+"/tree/")
	client, err := startProcess(os.Stderr, os.Stderr, "rsync", args...)
	if err != nil {
		return err
	}
	s.client.Store(int64(client.pid()))
	defer s.client.Store(0)
	select {
	case <-client.ended:
	case <-ctx.Done():
		client.terminate()
		return ctx.Err()
	}
	s.spent += client.cmd.ProcessState.UserTime() + client.cmd.ProcessState.SystemTime()
	// The daemon's child goes after the client.
	err = poll(ctx, 2*time.Millisecond, func() error {
		if len(descendants(s.daemon.pid())) > 0 {
			return errors.New("the rsync daemon is still busy")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if state := client.cmd.ProcessState; !state.Success() {
		return fmt.Errorf("rsync %s: %s", strings.Join(args, " "), state)
	}
	return nil
}

func (s *rsync) processes() (sender, receiver int) { return int(s.client.Load()), s.daemon.pid() }

func (s *rsync) ended() time.Duration { return s.spent }

func (s *rsync) journals(context.Context) (uint64, error) { return 0, nil }

func (s *rsync) stop() error {
	s.daemon.terminate()
	return nil
}
