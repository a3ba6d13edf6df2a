package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"repld/control"
	"repld/internal/testfs"
	"repld/wire/wiretest"
)

// commands is what a service's commands do in [TestCommandsAndCache]: the primary is
// where the file "position" of its own directory says, and what the standby is told is noted.
const commands = `#!/bin/sh
set -eu
cd "$1"
case $REPLD_ACTION in
position) cat position ;;
*) echo "$REPLD_ACTION $REPLD_POSITION" >> calls ;;
esac
`

// TestCommandsAndCache: a service that is held by commands is at the barrier's position,
// is promoted there, and comes back as a replica without a seed; a cache is flushed by a
// promotion, and only then.
func TestCommandsAndCache(t *testing.T) {
	t.Parallel()
	testfs.NeedRoot(t)
	p := &pair{t: t, dir: tempDir(t)}
	p.from, p.to = filepath.Join(p.dir, "a", "tree"), filepath.Join(p.dir, "b", "tree")
	mkdirs(t, p.from, p.to)
	script := filepath.Join(p.dir, "commands")
	write(t, script, commands)
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	listen := freePort(t)
	addr, err := net.ResolveUDPAddr("udp", listen)
	if err != nil {
		t.Fatal(err)
	}
	p.relay = wiretest.NewRelay(t, addr, seeded(t), wiretest.RelayOptions{})
	machine := func(name, designated, listen string) *node {
		dir := filepath.Join(p.dir, name)
		redis(t, filepath.Join(dir, "redis"), "SET", "session", name)
		n := newNode(t, name, "", filepath.Join(dir, "state"))
		n.conf = n.state + ".yaml"
		argv := fmt.Sprintf("[%s, %s]", script, dir)
		write(t, n.conf, fmt.Sprintf(`node: %s
designated: %s
listen: %q
state: %s
control: %s.sock
disk_reserve: 8MB
groups:
  - name: shop
    trees: [{name: up, path: %s}]
    barrier: {every: 200ms}
    databases:
      - {name: search, exec: {position: %s, hold: %s, advance: %s, promote: %s, rejoin: %s, start: [/bin/true], stop: [/bin/true]}}
      - {name: cache, redis: {mode: cache, dsn: "unix://%s"}}
`, name, designated, listen, n.state, n.state, filepath.Join(dir, "tree"), argv, argv, argv, argv, argv, filepath.Join(dir, "redis")))
		return n
	}
	a, b := machine("a", "primary", "127.0.0.1:0"), machine("b", "secondary", listen)
	p.primary, p.standby = a, b
	at := func(name, position string) {
		t.Helper()
		write(t, filepath.Join(p.dir, name, "position"), position+"\n")
	}
	calls := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(p.dir, name, "calls"))
		return strings.ReplaceAll(strings.TrimSuffix(string(text), "\n"), "\n", ", ")
	}
	stands := func(n *node, position string) {
		t.Helper()
		poll(t, "the service is at "+position, func() error {
			var list control.DatabaseList
			r := n.ctl("database", "status", "--json")
			if err := json.Unmarshal([]byte(r.stdout), &list); err != nil {
				return fmt.Errorf("%w: %s%s", err, r.stdout, r.stderr)
			}
			if len(list.Databases) != 1 || list.Databases[0].Replayed != position || list.Databases[0].Gate != position {
				return fmt.Errorf("%+v", list.Databases)
			}
			return nil
		})
	}
	at("a", "one")
	b.start()
	a.start()
	b.up()
	a.up()
	token := b.must("invite", "--address", p.relay.Addr())
	a.must("join", strings.TrimSpace(token[strings.LastIndex(token, " ")+1:]))
	p.linked()
	p.settle()
	stands(b, "one")
	at("a", "two")
	write(t, filepath.Join(p.from, "file"), "of two")
	p.settle()
	stands(b, "two")
	if found := calls("b"); !strings.HasPrefix(found, "hold , advance one") || !strings.HasSuffix(found, ", advance two") {
		t.Errorf("the standby's commands were called for %q", found)
	}
	if r := b.ctl("database", "seed", "search"); r.code != 4 || !strings.Contains(r.stderr, "held by commands") {
		t.Errorf("a seed: exit %d, %s", r.code, r.stderr)
	}
	if found := redis(t, filepath.Join(p.dir, "b", "redis"), "GET", "session"); found != "b" {
		t.Errorf("before a promotion the standby's cache holds %q, want what it held", found)
	}

	a.must("cutover", "--yes")
	if found := calls("b"); !strings.HasSuffix(found, ", advance two, promote two") {
		t.Errorf("after the cutover the commands were called for %q", found)
	}
	if found := redis(t, filepath.Join(p.dir, "b", "redis"), "GET", "session"); found != "" {
		t.Errorf("after a promotion the cache holds %q", found)
	}
	if found := redis(t, filepath.Join(p.dir, "a", "redis"), "GET", "session"); found != "a" {
		t.Errorf("the cache of who isn't promoted holds %q", found)
	}
	at("b", "three")
	p.primary, p.standby = b, a
	p.settle()
	stands(a, "three")
	if found := calls("a"); !strings.HasPrefix(found, "rejoin , hold ") || !strings.HasSuffix(found, "advance three") {
		t.Errorf("of the former primary the commands were called for %q", found)
	}
}

// redis asks the server at a socket, which is started if nobody is there.
func redis(t *testing.T, socket string, words ...string) string {
	t.Helper()
	cli := testfs.NeedProgram(t, "redis-cli", "redis-tools")
	if _, err := os.Stat(socket); err != nil {
		server := exec.Command(testfs.NeedProgram(t, "redis-server", "redis-server"), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", filepath.Dir(socket))
		server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = server.Process.Kill()
			_ = server.Wait()
		})
		poll(t, "the server answers", func() error { return exec.Command(cli, "-s", socket, "PING").Run() })
	}
	r := command(t, append([]string{cli, "-s", socket}, words...)...)
	if r.code != 0 {
		t.Fatalf("%v: %s%s", words, r.stdout, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}
