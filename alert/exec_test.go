package alert

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"repld/health"
	"repld/internal/testfs"
)

func testMessage() *Message {
	since := time.Date(2026, 11, 21, 8, 0, 0, 123456789, time.UTC)
	disk := health.Condition{Code: health.DiskLow, Severity: health.Critical, Since: since, Text: "4 % free, want 5 %", Hint: "free space"}
	link := health.Condition{Code: health.LinkDown, Severity: health.Warning, Since: since, Group: "sounz", Subject: "s", Text: "no link"}
	return newMessage("slayer", since, []Change{
		{Kind: health.Raised, Condition: disk}, {Kind: health.Resolved, Condition: link, Stood: 1.5, Times: 2, Untold: true},
	}, 0, []health.Condition{disk})
}

// script makes a program of a shell script.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "alert")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommand(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	t.Setenv("KEPT", "yes")
	dir := t.TempDir()
	path := script(t, `cat > "$1/in"; env > "$1/env"; printf '%s.%s' "$2" "$#" > "$1/args"; pwd > "$1/pwd"; echo sent; echo really >&2`)
	output, err := runCommand(t.Context(), []string{path, dir, `a "b" $HOME`}, testMessage())
	if err != nil || output != "sent\nreally" {
		t.Fatalf("%q, %v", output, err)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := read("args"); got != `a "b" $HOME.2` {
		t.Errorf("arguments: %s", got)
	}
	if got := read("pwd"); got != "/\n" {
		t.Errorf("directory: %s", got)
	}
	env := "\n" + read("env")
	for _, want := range []string{
		"REPLD_NODE=slayer", "REPLD_KIND=raised", "REPLD_CODE=disk-low", "REPLD_SEVERITY=critical", "REPLD_GROUP=", "REPLD_SUBJECT=",
		"REPLD_TEXT=4 % free, want 5 %", "REPLD_HINT=free space", "REPLD_SINCE=2026-11-21T08:00:00.123456789Z", "REPLD_MORE=1",
		"REPLD_SUMMARY=slayer: critical disk-low raised: 4 % free, want 5 %; and 1 more: link-down (sounz) came and went 2 times", "KEPT=yes",
	} {
		if !strings.Contains(env, "\n"+want+"\n") {
			t.Errorf("no %s in %s", want, env)
		}
	}
	if strings.Contains(env, "NOTIFY_SOCKET") {
		t.Error("the command could speak to systemd for the daemon")
	}
	const want = `{"node":"slayer","at":"2026-11-21T08:00:00.123456789Z","kind":"raised","code":"disk-low","severity":"critical",` +
		`"since":"2026-11-21T08:00:00.123456789Z","text":"4 % free, want 5 %","hint":"free space",` +
		`"summary":"slayer: critical disk-low raised: 4 % free, want 5 %; and 1 more: link-down (sounz) came and went 2 times","more":1,` +
		`"changes":[{"kind":"raised","code":"disk-low","severity":"critical","since":"2026-11-21T08:00:00.123456789Z","text":"4 % free, want 5 %","hint":"free space"},` +
		`{"kind":"resolved","code":"link-down","severity":"warning","since":"2026-11-21T08:00:00.123456789Z","group":"sounz","subject":"s","text":"no link","stood_seconds":1.5,"times":2,"untold":true}],` +
		`"standing":[{"code":"disk-low","severity":"critical","since":"2026-11-21T08:00:00.123456789Z","text":"4 % free, want 5 %","hint":"free space"}]}` + "\n"
	if got := read("in"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The service is a user with capabilities, which are for the daemon only.
func TestCommandHasNoCapabilities(t *testing.T) {
	const child = "REPLD_TEST_CAPABILITIES"
	if os.Getenv(child) != "" {
		output, err := runCommand(t.Context(), []string{"/bin/grep", "CapEff", "/proc/self/status"}, testMessage())
		own, _ := os.ReadFile("/proc/self/status")
		if err != nil || !strings.Contains(output, "0000000000000000") || strings.Contains(string(own), output) {
			t.Fatalf("%s, %v; the daemon's own: %s", output, err, own)
		}
		return
	}
	testfs.NeedRoot(t)
	const nobody = 65534
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestCommandHasNoCapabilities$", "-test.v")
	cmd.Env = append(os.Environ(), child+"=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: []uintptr{unix.CAP_DAC_OVERRIDE, unix.CAP_CHOWN},
	}
	if output, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(output), "--- PASS") {
		t.Fatalf("%v: %s", err, output)
	}
}

func TestFailingCommand(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"exit code", "echo no mail server >&2; exit 3", "ended with exit status 3: no mail server"},
		{"signal", "kill -9 $$", "ended with signal: killed"},
		{"reads nothing", "exec <&-; exit 1", "exit status 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := runCommand(t.Context(), []string{script(t, test.text)}, testMessage())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
	if _, err := runCommand(t.Context(), []string{"/nonexistent/program"}, testMessage()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func mustRead(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEnvironmentHoldsAnything(t *testing.T) {
	m := testMessage()
	m.Text = "a\x00b" + strings.Repeat("ü", wordLimit)
	m.Group = "x\ny=$(reboot)"
	dir := t.TempDir()
	if _, err := runCommand(t.Context(), []string{script(t, `printf %s "$REPLD_TEXT" > "$1/text"; printf %s "$REPLD_GROUP" > "$1/group"`), dir}, m); err != nil {
		t.Fatal(err)
	}
	text := string(mustRead(t, dir, "text"))
	if !strings.HasPrefix(text, "a\uFFFDbü") || !strings.HasSuffix(text, "ü…") || len(text) > wordLimit+len("…") {
		t.Errorf("%d bytes: %.20q", len(text), text)
	}
	if got := string(mustRead(t, dir, "group")); got != m.Group {
		t.Errorf("%q", got)
	}
}

func TestMessageIsBounded(t *testing.T) {
	var changes []Change
	var standing []health.Condition
	for range 5 * listLimit {
		c := health.Condition{Code: health.ForeignWrite, Severity: health.Warning, Text: "line one\nline two\x1b[31m"}
		changes = append(changes, Change{Kind: health.Raised, Condition: c})
		standing = append(standing, c)
	}
	m := newMessage("slayer", time.Time{}, changes, 7, standing)
	if len(m.Changes) != listLimit || m.Unlisted != 4*listLimit+7 || m.More != 5*listLimit+6 || len(m.Standing) != listLimit || m.StandingTotal != 5*listLimit {
		t.Errorf("%d listed, %d not, %d more, %d of %d stand", len(m.Changes), m.Unlisted, m.More, len(m.Standing), m.StandingTotal)
	}
	if strings.ContainsAny(m.Summary, "\n\x1b") || !strings.HasSuffix(m.Summary, "501 not named here") {
		t.Errorf("%q", m.Summary)
	}
}
