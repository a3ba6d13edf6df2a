package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"repld/capture"
	"repld/health"
	"repld/wire"
	"repld/wire/wiretest"
)

// pair is a primary and a standby with a link between them that can be cut.
type pair struct {
	t        *testing.T
	dir      string
	primary  *node
	standby  *node
	relay    *wiretest.Relay
	from, to string   // the trees
	before   []string // in front of the primary's command

	beforeStandby []string // in front of the standby's
}

// newPair starts and pairs two daemons. The primary's tree is made empty unless it
// is there.
func newPair(t *testing.T, seed uint64, before ...string) *pair {
	t.Helper()
	dir := tempDir(t)
	p := &pair{t: t, dir: dir, before: before, from: filepath.Join(dir, "from", "tree"), to: filepath.Join(dir, "to", "tree")}
	mkdirs(t, p.from, p.to)
	p.start(seed)
	return p
}

// start starts both daemons and pairs them.
func (p *pair) start(seed uint64) {
	p.t.Helper()
	listen := freePort(p.t)
	p.standby = newNode(p.t, "standby", p.to, filepath.Join(p.dir, "standby"), "--listen", listen, "--name", "megadeth")
	p.standby.user = p.beforeStandby
	p.standby.start()
	token := p.standby.token()
	addr, err := net.ResolveUDPAddr("udp", listen)
	if err != nil {
		p.t.Fatal(err)
	}
	p.relay = wiretest.NewRelay(p.t, addr, seed, wiretest.RelayOptions{})
	parsed, err := wire.ParseToken(token, time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	parsed.Address = p.relay.Addr()
	p.primary = newNode(p.t, "primary", p.from, filepath.Join(p.dir, "primary"), "--name", "slayer")
	p.primary.user = p.before
	p.primary.start("--join", parsed.String())
	p.primary.up()
	p.linked()
}

// linked waits until the nodes are connected.
func (p *pair) linked() {
	p.t.Helper()
	poll(p.t, "the link is up", func() error {
		p.primary.alive()
		p.standby.alive()
		s, err := p.primary.status()
		switch {
		case err != nil:
			return err
		case s.Peer == nil || s.Peer.Link != "up":
			return fmt.Errorf("peer: %+v", s.Peer)
		}
		return nil
	})
}

// settle waits until the standby has applied everything done so far. What the tests do
// to small trees changes more than half of one now and then, or leaves one empty: an
// operator agrees.
func (p *pair) settle() {
	p.t.Helper()
	r := p.primary.ctl("barrier", "--wait", "applied", "--timeout", patience.String())
	for tries := 0; r.code == 4 && tries < 10; tries++ {
		switch {
		case emptied(r):
			p.primary.must("resume", "--accept")
		case p.guarded():
			p.standby.must("resume", "--accept")
		default:
			tries = 10
		}
		r = p.primary.ctl("barrier", "--wait", "applied", "--timeout", patience.String())
	}
	if r.code != 0 {
		p.primary.must("barrier", "--wait", "applied", "--timeout", patience.String()) // tells all
	}
}

// emptied reports whether a barrier was refused because a tree has become empty.
func emptied(r result) bool { return strings.Contains(r.stderr, capture.ErrEmptied.Error()) }

// guarded reports whether the standby has halted before a barrier that changes much.
func (p *pair) guarded() bool {
	s, err := p.standby.status()
	return err == nil && slices.ContainsFunc(s.Health, func(c health.Condition) bool {
		return c.Code == health.GuardHalted && strings.Contains(c.Hint+c.Text, "--accept")
	})
}

// equal waits until all is applied, and compares the trees.
func (p *pair) equal() {
	p.t.Helper()
	p.settle()
	sameTrees(p.t, p.from, p.to)
}

// tempDir is a directory on the file system of the work, short enough for sockets.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() || os.Getenv("REPLD_KEEP") == "" {
			os.RemoveAll(dir)
			return
		}
		t.Logf("%s is kept", dir)
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mkdirs(t testing.TB, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// freePort returns a UDP address on loopback that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	return pc.LocalAddr().String()
}
