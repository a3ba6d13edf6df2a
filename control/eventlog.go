package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"repld/change"
)

// The files of an [EventLog] in its directory.
const (
	eventsFile    = "events.jsonl"
	eventsOldFile = "events.1.jsonl"
)

// eventTextLimit bounds an event's text in bytes; what is longer is cut.
const eventTextLimit = 8 << 10

// seqLimit is more than any log will number; beyond it a line is damaged.
const seqLimit = 1 << 62

// ErrClosed is returned by a closed [EventLog].
var ErrClosed = errors.New("log of events is closed")

// EventLogOptions are the settings of an [EventLog].
type EventLogOptions struct {
	Limit int64        // bytes of one of its two files; 0 = 4 MiB
	Clock change.Clock // nil = the system's
}

// EventLog keeps the newest events in a directory.
type EventLog struct {
	dir   string
	limit int64
	clock change.Clock

	mu     sync.Mutex
	file   *os.File // nil once closed
	size   int64
	seq    uint64        // of the newest event
	turns  uint64        // how often the files were rotated
	change chan struct{} // closed at the next event
}

// OpenEventLog opens the log in dir, which must exist. A last line that a crash
// cut short is removed; lines that can't be read are skipped when reading.
func OpenEventLog(dir string, o EventLogOptions) (*EventLog, error) {
	if o.Limit == 0 {
		o.Limit = 4 << 20
	}
	if o.Clock == nil {
		o.Clock = change.SystemClock()
	}
	l := &EventLog{dir: dir, limit: o.Limit, clock: o.Clock, change: make(chan struct{})}
	if err := l.openCurrent(); err != nil {
		return nil, fmt.Errorf("log of events: %w", err)
	}
	return l, nil
}

func (l *EventLog) openCurrent() error {
	if err := l.recoverSeq(filepath.Join(l.dir, eventsOldFile), nil); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(filepath.Join(l.dir, eventsFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := l.recoverSeq(f.Name(), &l.size); err != nil {
		f.Close()
		return err
	}
	if err := f.Truncate(l.size); err != nil {
		f.Close()
		return err
	}
	l.file = f
	return nil
}

// recoverSeq learns the newest number in a file and where its last whole line ends.
func (l *EventLog) recoverSeq(path string, end *int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := readEvents(f, 0, func(e Event) error {
		l.seq = max(l.seq, e.Seq)
		return nil
	})
	if end != nil {
		*end = size
	}
	return err
}

// Add appends an event. Its number and, where it has none, its time are given by
// the log.
func (l *EventLog) Add(e Event) error {
	if len(e.Text) > eventTextLimit {
		e.Text = e.Text[:eventTextLimit] + "…"
	}
	if e.At.IsZero() {
		e.At = TimeOf(l.clock.Now())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return ErrClosed
	}
	e.Seq = l.seq + 1
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("log of events: %w", err)
	}
	b = append(b, '\n')
	if l.size > 0 && l.size+int64(len(b)) > l.limit {
		if err := l.rotate(); err != nil {
			return fmt.Errorf("log of events: %w", err)
		}
	}
	if n, err := l.file.WriteAt(b, l.size); err != nil {
		if n > 0 {
			_ = l.file.Truncate(l.size) // else half a line joins the next one, and both are skipped
		}
		return fmt.Errorf("log of events: %w", err)
	}
	l.seq++
	l.size += int64(len(b))
	close(l.change)
	l.change = make(chan struct{})
	return nil
}

// rotate puts an empty file in the current one's place. Where the disk is full it
// fails before it has changed anything.
func (l *EventLog) rotate() error {
	current := filepath.Join(l.dir, eventsFile)
	f, err := os.OpenFile(current+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Rename(current, filepath.Join(l.dir, eventsOldFile)), os.Rename(f.Name(), current)); err != nil {
		f.Close()
		return err
	}
	l.file.Close()
	l.file, l.size = f, 0
	l.turns++
	return nil
}

// Read calls each for the events since a moment, oldest first; the zero time
// means all that is kept. With follow it goes on with those to come until ctx ends
// (whose error it returns) or the log is closed ([ErrClosed]). It returns each's
// error. A reader that is slower than two files are filled misses events; their
// numbers show the gap.
func (l *EventLog) Read(ctx context.Context, since time.Time, follow bool, each func(Event) error) error {
	var at cursor
	for {
		next, err := l.readFrom(at, func(e Event) error {
			if e.At.Before(since) {
				return nil
			}
			return each(e)
		})
		if err != nil {
			return err
		}
		at = next
		if !follow {
			return nil
		}
		if err := l.wait(ctx, at); err != nil {
			return err
		}
	}
}

// cursor is how far a reader has come.
type cursor struct {
	started bool
	turns   uint64 // of the log when offset was reached
	offset  int64  // in what was the current file then
	seq     uint64 // of the last event that was read
}

func (l *EventLog) wait(ctx context.Context, at cursor) error {
	l.mu.Lock()
	closed, behind, news := l.file == nil, l.turns != at.turns || l.size > at.offset, l.change
	l.mu.Unlock()
	switch {
	case behind:
		return nil
	case closed:
		return ErrClosed
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-news:
		return nil
	}
}

// readFrom reads everything after the cursor. Files are opened under the lock, so
// that they belong together, and read without it.
func (l *EventLog) readFrom(at cursor, each func(Event) error) (cursor, error) {
	l.mu.Lock()
	next := cursor{started: true, turns: l.turns, offset: l.size, seq: at.seq}
	size := l.size
	current, err := os.Open(filepath.Join(l.dir, eventsFile))
	if err != nil {
		l.mu.Unlock()
		return at, fmt.Errorf("log of events: %w", err)
	}
	old, oldErr := os.Open(filepath.Join(l.dir, eventsOldFile))
	l.mu.Unlock()
	defer current.Close()
	if oldErr == nil {
		defer old.Close()
	}
	emit := func(e Event) error {
		if e.Seq <= next.seq {
			return nil
		}
		next.seq = e.Seq
		return each(e)
	}
	var oldFrom, from int64
	switch {
	case at.started && at.turns == next.turns:
		from, oldErr = at.offset, fs.ErrNotExist // all of the old file was read
	case at.started && at.turns+1 == next.turns:
		oldFrom = at.offset
	}
	if oldErr == nil {
		if _, err := readEvents(old, oldFrom, emit); err != nil {
			return at, err
		}
	}
	_, err = readEvents(io.NewSectionReader(current, 0, size), from, emit)
	return next, err
}

// readEvents calls each for every event from an offset on and returns the end of
// the last whole line. A line that is no event is skipped.
func readEvents(r io.ReadSeeker, from int64, each func(Event) error) (int64, error) {
	if _, err := r.Seek(from, io.SeekStart); err != nil {
		return from, fmt.Errorf("log of events: %w", err)
	}
	end := from
	for b := bufio.NewReader(r); ; {
		line, err := b.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return end, fmt.Errorf("log of events: %w", err)
		}
		end += int64(len(line))
		var e Event
		if json.Unmarshal(bytes.TrimSpace(line), &e) != nil || e.Seq == 0 || e.Seq > seqLimit {
			continue
		}
		if err := each(e); err != nil {
			return end, err
		}
	}
}

// Close ends the log and the readers that follow it.
func (l *EventLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	close(l.change)
	l.change = make(chan struct{})
	return err
}
