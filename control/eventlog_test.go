package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func openLog(t *testing.T, dir string, limit int64) *EventLog {
	t.Helper()
	l, err := OpenEventLog(dir, EventLogOptions{Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func add(t *testing.T, l *EventLog, text string) {
	t.Helper()
	if err := l.Add(Event{Type: EventLinkUp, Text: text}); err != nil {
		t.Fatal(err)
	}
}

func texts(t *testing.T, l *EventLog, since time.Time) []string {
	t.Helper()
	var got []string
	last := uint64(0)
	err := l.Read(t.Context(), since, false, func(e Event) error {
		if e.Seq <= last {
			t.Errorf("event %d after %d", e.Seq, last)
		}
		last = e.Seq
		got = append(got, e.Text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestEventLogSurvivesReopening(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, 0)
	add(t, l, "one")
	add(t, l, "two")
	l.Close()
	if err := l.Add(Event{}); !errors.Is(err, ErrClosed) {
		t.Errorf("adding to a closed log: %v", err)
	}
	path := filepath.Join(dir, eventsFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A crash in the middle of the second line, at every byte of it.
	first := strings.IndexByte(string(whole), '\n') + 1
	for n := first; n < len(whole); n++ {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		l := openLog(t, dir, 0)
		add(t, l, "three")
		if got := strings.Join(texts(t, l, time.Time{}), " "); got != "one three" {
			t.Fatalf("cut at %d: %s", n, got)
		}
		l.Close()
	}
}

func TestEventLogSkipsDamage(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, 0)
	add(t, l, "one")
	l.Close()
	f, err := os.OpenFile(filepath.Join(dir, eventsFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "\x00\x00garbage\n\n{\"seq\": -1}\n")
	f.Close()
	l = openLog(t, dir, 0)
	add(t, l, "two")
	if got := strings.Join(texts(t, l, time.Time{}), " "); got != "one two" {
		t.Error(got)
	}
}

func TestEventLogIsBounded(t *testing.T) {
	const limit = 1000
	dir := t.TempDir()
	l := openLog(t, dir, limit)
	for i := range 200 {
		add(t, l, fmt.Sprintf("event %d", i))
		if i%50 == 49 {
			l.Close()
			l = openLog(t, dir, limit)
		}
	}
	for _, name := range []string{eventsFile, eventsOldFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() > limit {
			t.Errorf("%s: %d bytes, %v", name, info.Size(), err)
		}
	}
	got := texts(t, l, time.Time{})
	if len(got) < 10 || got[len(got)-1] != "event 199" {
		t.Errorf("%d events are left: %v", len(got), got)
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("%d files", len(left))
	}
	add(t, l, strings.Repeat("x", 1<<20)) // longer than a file may be: cut, in a file of its own
	if got := texts(t, l, time.Time{}); len(got[len(got)-1]) > eventTextLimit+10 {
		t.Errorf("a text of %d bytes", len(got[len(got)-1]))
	}
}

func TestEventLogSince(t *testing.T) {
	l := openLog(t, t.TempDir(), 0)
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for hour := range 3 {
		if err := l.Add(Event{Type: EventLinkUp, At: TimeOf(noon.Add(time.Duration(hour) * time.Hour)), Text: fmt.Sprint(hour)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(texts(t, l, noon.Add(time.Hour)), " "); got != "1 2" {
		t.Error(got)
	}
}

// TestEventLogFollow reads while events are written and files are rotated, and
// must see every event once, in order.
func TestEventLogFollow(t *testing.T) {
	l := openLog(t, t.TempDir(), 6000)
	const n = 300
	read := make(chan uint64)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- l.Read(ctx, time.Time{}, true, func(e Event) error {
			read <- e.Seq
			return nil
		})
	}()
	seen := uint64(0)
	next := func() {
		if seen++; <-read != seen {
			t.Fatalf("event %d is missing", seen)
		}
	}
	for i := range n {
		add(t, l, "event")
		if i%7 != 0 { // it falls behind a little, by less than a file
			next()
		}
	}
	for seen < n {
		next()
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("following ended with %v", err)
	}
	ended2 := make(chan error, 1)
	go func() {
		ended2 <- l.Read(t.Context(), time.Now().Add(time.Hour), true, func(Event) error { return nil })
	}()
	l.Close()
	if err := <-ended2; !errors.Is(err, ErrClosed) {
		t.Errorf("following a closed log ended with %v", err)
	}
}
