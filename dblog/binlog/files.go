package binlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/dblog"
)

// logFiles are the binary logs of a server that doesn't run, by the path that their
// names begin with.
type logFiles string

// state returns the transactions that the logs end with, false if the server wasn't shut
// down cleanly, or runs: it writes the file at the end of a clean shutdown, and removes
// it when it starts (MYSQL_BIN_LOG::write_state_to_file).
func (l logFiles) state() (gtidState, bool, error) {
	text, err := os.ReadFile(string(l) + ".state")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	st, err := parseState(strings.Join(strings.Fields(string(text)), ","))
	return st, err == nil, err
}

// list returns the paths of the files, oldest first.
func (l logFiles) list() ([]string, error) {
	text, err := os.ReadFile(string(l) + ".index")
	if err != nil {
		return nil, err
	}
	list := strings.Fields(string(text))
	for i, path := range list {
		if !filepath.IsAbs(path) {
			list[i] = filepath.Join(filepath.Dir(string(l)), filepath.Base(path))
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s.index names no binary log", l)
	}
	return list, nil
}

// end returns where the logs end.
func (l logFiles) end() (change.StreamPosition, error) {
	var at change.StreamPosition
	list, err := l.list()
	if err != nil {
		return at, err
	}
	last := list[len(list)-1]
	st, err := os.Stat(last)
	if err != nil {
		return at, err
	}
	at.Offset = uint64(st.Size())
	at.Chapter, err = fileNumber(last)
	return at, err
}

// shipFiles puts into the spool what the logs of a server have behind from that was shut
// down: it ends the streams before it has written its last event.
func (s *Source) shipFiles(ctx context.Context, from change.StreamPosition) error {
	s.mu.Lock()
	logs := logFiles(s.record.LogBin)
	s.mu.Unlock()
	if logs == "" || from.IsZero() {
		return nil
	}
	if _, clean, err := logs.state(); err != nil || !clean {
		return err
	}
	list, err := logs.list()
	if err != nil {
		return err
	}
	if end, err := logs.end(); err != nil || end == from {
		return err
	}
	if err := s.opts.Spool.Reset(); err != nil {
		return err
	}
	in := &incoming{source: s}
	for _, path := range list {
		number, err := fileNumber(path)
		if err != nil {
			return err
		}
		if number < from.Chapter {
			continue
		}
		if in.at.IsZero() && number > from.Chapter {
			break
		}
		in.next(filepath.Base(path), number)
		if number == from.Chapter {
			in.keep = from.Offset
		}
		if err := in.file(ctx, path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if in.at.IsZero() || in.keep > in.at.Offset {
		return fmt.Errorf("%w: the standby is at %s, and the server's binary logs aren't", dblog.ErrNeedsSeed, show(from))
	}
	return in.flush(ctx)
}

// file takes the events of a file.
func (in *incoming) file(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	magic := make([]byte, fileHead)
	if _, err := io.ReadFull(r, magic); err != nil || !bytes.Equal(magic, []byte("\xfebin")) {
		return errors.Join(errors.New("this is no binary log"), err)
	}
	for ctx.Err() == nil {
		head := make([]byte, eventHead)
		if _, err := io.ReadFull(r, head); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		h, err := parseHeader(head)
		if err != nil {
			return err
		}
		if err := in.event(ctx, h, head, io.LimitReader(r, int64(h.size)-eventHead)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// occupied reports whether a server runs on a data directory: it locks its first
// tablespace (fcntl(2)).
func occupied(dataDir string) (bool, error) {
	f, err := os.Open(filepath.Join(dataDir, "ibdata1"))
	if err != nil {
		return false, err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return false, err
	}
	return lock.Type != unix.F_UNLCK, nil
}
