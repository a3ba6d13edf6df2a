package pairtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serveWord names where a process of this program that serves a load with a database in
// memory leaves its rows.
const serveWord = "PAIRTEST_SERVE"

func TestMain(m *testing.M) {
	path := os.Getenv(serveWord)
	if path == "" {
		os.Exit(m.Run())
	}
	var db memory
	err := serve(context.Background(), os.Stdin, os.Stdout, func(Order) (Database, error) { return &db, nil })
	rows, jsonErr := json.Marshal(db.rows)
	if err = errors.Join(err, jsonErr, os.WriteFile(path, rows, 0o600)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func startProcess(t *testing.T, dir string) *Process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), serveWord+"="+filepath.Join(dir, "rows"))
	cmd.Stderr = os.Stderr
	p, err := StartProcess(cmd, Order{Dir: filepath.Join(dir, "tree"), Seed: 11, Writers: 2, First: 4, Keep: 5})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	for end := time.Now().Add(20 * time.Second); ; <-time.After(time.Millisecond) {
		s, err := p.State()
		if err != nil || s.Failed != "" {
			t.Fatalf("%+v, %v", s, err)
		}
		if min(s.Done[0], s.Done[1]) > 10 && s.Files > 0 && s.Rows > 0 {
			return p
		}
		if time.Now().After(end) {
			t.Fatalf("the load does little: %+v", s)
		}
	}
}

// TestProcess: writers in another process tell how far they are, and end whole.
func TestProcess(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	s, err := p.State()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "rows"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []Row
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	found, err := Check(filepath.Join(dir, "tree"), rows, Demand{Seed: 11, Keep: 5, First: 4, Least: s.Done, Newest: s.Begun})
	if err != nil || found.Writers != 2 || found.InFlight != 0 {
		t.Errorf("%+v, %v; want two writers with nothing in flight", found, err)
	}
}

// TestProcessKilled: what it did last is known behind its end.
func TestProcessKilled(t *testing.T) {
	p := startProcess(t, t.TempDir())
	p.Kill()
	if s, err := p.State(); err != nil || len(s.Done) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("stop what has ended: %v", err)
	}
}

func TestServeRefuses(t *testing.T) {
	for order, want := range map[string]string{
		"":                                      "no order",
		"{}\n":                                  "one database",
		`{"Postgres":"a","MariaDB":"b"}` + "\n": "one database",
		"[\n":                                   "unexpected end",
	} {
		if err := Serve(t.Context(), strings.NewReader(order), os.Stderr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", order, err, want)
		}
	}
}
