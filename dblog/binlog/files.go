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
	if clean, err := s.dialect.clean(logs); err != nil || !clean {
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
	s.mu.Lock()
	base, err := s.dialect.parse(s.record.Base)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	in := &incoming{source: s, base: base}
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

// lockedFiles are those that a running server locks (fcntl(2)). A clone of MySQL loses the
// locks of what it copies, since it opens and closes that in the same process.
var lockedFiles = []string{"ibdata1", "ibtmp1", "#ib_*.dblwr"}

// occupied reports whether a server runs on a data directory. One without a database is
// [fs.ErrNotExist].
func occupied(dataDir string) (bool, error) {
	if _, err := os.Stat(filepath.Join(dataDir, lockedFiles[0])); err != nil {
		return false, err
	}
	for _, pattern := range lockedFiles {
		names, err := fs.Glob(os.DirFS(dataDir), pattern)
		if err != nil {
			return false, err
		}
		for _, name := range names {
			if locked, err := locked(filepath.Join(dataDir, name)); locked || err != nil {
				return locked, err
			}
		}
	}
	return false, nil
}

func locked(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) { // it ended meanwhile
		return false, nil
	}
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
