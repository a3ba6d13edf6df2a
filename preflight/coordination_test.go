package preflight

import (
	"slices"
	"strings"
	"testing"
)

func TestCoordination(t *testing.T) {
	m := newMachine(t)
	m.write("ca.pem", "nothing", 0o600)
	m.write("watchdog", "", 0o600)
	r := m.check(t.Context(), plain+`coordination:
  etcd: {endpoints: ["https://10.0.0.3:2379"], ca: BASE/ca.pem}
  watchdog: BASE/watchdog
hooks:
  demote:
    - {exec: [/bin/true], timeout: 4s, retry: 1}
`)
	m.want(r,
		"c:10:9: the certificates for etcd: BASE/ca.pem: found no certificate, want PEM",
		"c:11:13: the watchdog BASE/watchdog is no character device")
	for _, want := range []string{"coordination has 1 endpoint of etcd", "may take 9s by their time limits, but are killed after 5s"} {
		if !slices.ContainsFunc(r.Notes, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("found notes %q, want %q", r.Notes, want)
		}
	}

	r = m.check(t.Context(), plain+`coordination:
  etcd: {endpoints: ["http://127.0.0.1:1", "http://10.0.0.3:2379", "http://10.0.0.4:2379"]}
  watchdog: BASE/none
parity: {commands: [[BASE/none, -v], [sh, -c, "true"]]}
`)
	m.want(r, "c:11:13: the watchdog BASE/none: no such file or directory; modprobe softdog makes one where the machine has none")
	for _, want := range []string{"asks http://10.0.0.3:2379 without encryption", "no demote hooks", "parity compares what " + m.path("none") + " writes, but here: no such file or directory"} {
		if !slices.ContainsFunc(r.Notes, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("found notes %q, want %q", r.Notes, want)
		}
	}

	r = m.check(t.Context(), plain+"coordination: {etcd: {endpoints: [\"http://127.0.0.1:1\"]}}\n")
	m.want(r)
	if !slices.ContainsFunc(r.Notes, func(s string) bool { return strings.Contains(s, "no watchdog") }) {
		t.Errorf("found notes %q", r.Notes)
	}
}
