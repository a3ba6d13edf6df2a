package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"repld/change"
)

// shutDown notes that the server was shut down while it streamed; zero: it runs.
func (s *Source) shutDown(end change.StreamPosition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped != end {
		s.stopped = end
		s.announce()
	}
}

// lookEvery is how often a data directory is looked at whose server is being stopped.
const lookEvery = 100 * time.Millisecond

// Drained is part of [dblog.Primary]. A server that is shut down cleanly waits until the
// standby has everything, the record of its last checkpoint too, and then says so. If
// the link broke while it did, what the data directory says is compared with what the
// standby has.
func (s *Source) Drained(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		s.mu.Lock()
		stopped, durable, news := s.stopped, s.durable, s.news
		s.mu.Unlock()
		if !stopped.IsZero() && !durable.Before(stopped) {
			return nil
		}
		if ok, err := s.drainedBy(durable); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the standby has the log up to %s, and it isn't known that the server was shut down there: %w", show(durable), ctx.Err())
		case <-news:
		case <-ticker.C:
		}
	}
}

// drainedBy reports whether the data directory is that of a server whose log ends where
// the standby's does.
func (s *Source) drainedBy(durable change.StreamPosition) (bool, error) {
	if s.opts.DataDir == "" || durable.IsZero() || running(s.opts.DataDir) {
		return false, nil
	}
	c, err := readControl(s.opts.DataDir)
	if err != nil || c.state != shutDown {
		return false, err
	}
	end := LSN(durable.Offset)
	return c.timeline == durable.Chapter && c.checkpoint < end && end-c.checkpoint <= lastRecord, nil
}

// running reports whether the server of a data directory runs. The file of a server that
// crashed may name a process that is another one by now: a server works in its data
// directory.
func running(dataDir string) bool {
	b, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 {
		return true // it is being written
	}
	at, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	own, err := os.Stat(dataDir)
	return err != nil || os.SameFile(at, own)
}
