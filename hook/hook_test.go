package hook

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var facts = Facts{
	Node: "slayer", Peer: "megadeth", List: "promote", Role: "production", Status: "production_alone", Epoch: 3, Barriers: []string{"sounz=2-812"},
}

// script returns the path of a program.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	// Written by another process, so that no fork of this one holds it open for writing
	// while it is executed (ETXTBSY).
	if err := os.WriteFile(path+".new", []byte("#!/bin/sh\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(context.Background(), []string{"/usr/bin/install", "-m", "755", path + ".new", path}, Facts{}); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExecEnvironment(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/secret")
	results, err := New(Options{}).Run(t.Context(), []Hook{{Exec: []string{script(t, `env | sort | grep -e ^REPLD_ -e ^NOTIFY; echo "$1"`), "a b"}}}, facts)
	if err != nil {
		t.Fatal(err)
	}
	want := `REPLD_BARRIER=2-812
REPLD_BARRIERS=sounz=2-812
REPLD_EPOCH=3
REPLD_HOOK=promote
REPLD_NODE=slayer
REPLD_PEER=megadeth
REPLD_ROLE=production
REPLD_STATUS=production_alone
a b`
	if results[0].Output != want {
		t.Errorf("found\n%s\nwant\n%s", results[0].Output, want)
	}
}

func TestExecOutputIsBounded(t *testing.T) {
	results, err := New(Options{}).Run(t.Context(), []Hook{{Exec: []string{script(t, `yes | head -c 1000000; echo the end; exit 3`)}}}, facts)
	if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "exit status 3") || len(results[0].Output) > outputLimit+len("…") ||
		!strings.HasSuffix(results[0].Output, "the end") {
		t.Errorf("found %d bytes and error %.300v", len(results[0].Output), err)
	}
}

// A program that hangs is killed with what it started.
func TestExecTimeout(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pid")
	path := script(t, `sleep 1000 & echo $! > "$1"; wait`)
	results, err := New(Options{}).Run(t.Context(), []Hook{{Exec: []string{path, pids}, Timeout: 300 * time.Millisecond, Retry: 1, Pause: time.Millisecond}}, facts)
	if !errors.Is(err, context.DeadlineExceeded) || results[0].Attempts != 2 {
		t.Fatalf("found %+v and error %v", results, err)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	poll(t, "the child to end", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) })
}

func zombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestOnErrorAndRetry(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	say := script(t, `echo "$1" >> "$2"; [ "$1" != bad ]`)
	second := script(t, `echo try >> "$1"; [ $(grep -c try "$1") = 2 ]`)
	hook := func(word string, on OnError) Hook { return Hook{Exec: []string{say, word, log}, OnError: on} }

	var told []string
	r := New(Options{Report: func(f Facts, result Result) { told = append(told, result.Text()) }})
	results, err := r.Run(t.Context(), []Hook{hook("one", ""), hook("bad", GoOn), hook("two", ""),
		{Exec: []string{second, log}, Retry: 2, Pause: time.Millisecond}, hook("bad", Abort), hook("never", "")}, facts)
	if !errors.Is(err, ErrFailed) || len(results) != 5 || len(told) != 5 {
		t.Fatalf("found %d results, %d reports, error %v", len(results), len(told), err)
	}
	if !results[1].Ignored || results[1].Err == nil || results[3].Attempts != 2 || results[3].Err != nil || results[4].Ignored {
		t.Errorf("found %+v", results)
	}
	text, err := os.ReadFile(log)
	if want := "one\nbad\ntwo\ntry\ntry\nbad\n"; err != nil || string(text) != want {
		t.Errorf("found %q, %v; want %q", text, err, want)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := New(Options{Report: func(Facts, Result) { cancel() }})
	ok := Hook{Exec: []string{"/bin/true"}, OnError: GoOn}
	if results, err := r.Run(ctx, []Hook{ok, ok, ok}, facts); !errors.Is(err, context.Canceled) || len(results) > 2 {
		t.Errorf("found %d results, error %v", len(results), err)
	}
}

// What may fail proves nothing.
func TestFence(t *testing.T) {
	yes, no := Hook{Exec: []string{"/bin/true"}}, Hook{Exec: []string{"/bin/false"}}
	goOn := func(h Hook) Hook { h.OnError = GoOn; return h }
	for name, c := range map[string]struct {
		list []Hook
		ok   bool
	}{
		"one":            {[]Hook{yes}, true},
		"two":            {[]Hook{yes, yes}, true},
		"none":           {nil, false},
		"failed":         {[]Hook{no}, false},
		"second failed":  {[]Hook{yes, no}, false},
		"optional only":  {[]Hook{goOn(yes)}, false},
		"optional fails": {[]Hook{goOn(no), yes}, true},
	} {
		if _, err := New(Options{}).Fence(t.Context(), c.list, facts); (err == nil) != c.ok {
			t.Errorf("%s: found error %v, want success %v", name, err, c.ok)
		}
	}
}

func TestHTTP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Write([]byte("<h1>SOUNZ</h1> " + r.Method))
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/slow":
			<-r.Context().Done()
		default:
			http.Error(w, "nothing here", http.StatusNotFound)
		}
	}))
	defer server.Close()
	for name, c := range map[string]struct {
		h    HTTP
		fail string
	}{
		"plain":       {HTTP{URL: "/"}, ""},
		"contains":    {HTTP{URL: "/", Contains: "SOUNZ"}, ""},
		"post":        {HTTP{Method: "POST", URL: "/", Contains: "POST"}, ""},
		"expected":    {HTTP{URL: "/none", Expect: 404}, ""},
		"redirect":    {HTTP{URL: "/moved", Expect: 302}, ""},
		"other text":  {HTTP{URL: "/", Contains: "Solr"}, `without the text "Solr"`},
		"other code":  {HTTP{URL: "/none?token=secret"}, "answers 404 Not Found, want 200"},
		"not in time": {HTTP{URL: "/slow?token=secret"}, "did not end within 200ms"},
	} {
		h := c.h
		h.URL = server.URL + h.URL
		_, err := New(Options{}).Run(t.Context(), []Hook{{HTTP: &h, Timeout: 200 * time.Millisecond}}, facts)
		if c.fail == "" && err != nil || c.fail != "" && (err == nil || !strings.Contains(err.Error(), c.fail)) {
			t.Errorf("%s: found error %v, want %q", name, err, c.fail)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the address: %v", name, err)
		}
	}
}

func TestReady(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r := New(Options{})
	for name, c := range map[string]struct {
		h  Hook
		ok bool
	}{
		"program":        {Hook{Exec: []string{"/bin/true"}}, true},
		"missing":        {Hook{Exec: []string{dir + "/none"}}, false},
		"relative":       {Hook{Exec: []string{"true"}}, false},
		"directory":      {Hook{Exec: []string{dir}}, false},
		"not executable": {Hook{Exec: []string{plain}}, false},
		"interface":      {Hook{Address: &Address{Dev: "lo"}}, true},
		"no interface":   {Hook{Address: &Address{Dev: "none0"}}, false},
		"key":            {Hook{DNS: &DNS{KeyFile: plain}}, false},
		"http":           {Hook{HTTP: &HTTP{URL: "http://127.0.0.1/"}}, true},
	} {
		if err := r.Ready(t.Context(), &c.h); (err == nil) != c.ok {
			t.Errorf("%s: found error %v, want ready %v", name, err, c.ok)
		}
	}
	if names := []string{(&Hook{HTTP: &HTTP{URL: "http://u:p@h/x?token=1"}}).String(), (&Hook{}).String()}; !slices.Equal(names, []string{"http GET h", "nothing"}) {
		t.Errorf("found the names %q", names)
	}
}
