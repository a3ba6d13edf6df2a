package control

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzEventLog opens a log over whatever is in its files: what is added after
// that must be read back, last and once.
func FuzzEventLog(f *testing.F) {
	f.Add([]byte(`{"seq":1,"at":"2026-11-21T08:00:00Z","type":"started","text":"a"}`+"\n"), []byte{})
	f.Add([]byte("{\"seq\":2}\n{\"seq\":1}\n{"), []byte("{\"seq\":7}\n"))
	f.Add([]byte("\x00\n\n[]\nnull\n{\"seq\":-1}\n"), []byte("no newline"))
	f.Add([]byte("{\"seq\":18446744073709551615}\n"), []byte{})
	f.Fuzz(func(t *testing.T, current, old []byte) {
		dir := t.TempDir()
		for name, content := range map[string][]byte{eventsFile: current, eventsOldFile: old} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l, err := OpenEventLog(dir, EventLogOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := l.Add(Event{Type: EventStarted, Text: "added"}); err != nil {
			t.Fatal(err)
		}
		var last Event
		if err := l.Read(context.Background(), time.Time{}, false, func(e Event) error { last = e; return nil }); err != nil {
			t.Fatal(err)
		}
		if last.Text != "added" || last.Type != EventStarted {
			t.Fatalf("the last event is %+v", last)
		}
	})
}
