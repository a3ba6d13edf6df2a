package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"repld/control"
	"repld/wire/wiretest"
)

// services is a pair of services with two groups, the first of two trees. The trees
// and the states may be made file systems of their own before it is started.
type services struct {
	*pair
	groups map[string][]string // the names of its trees
	listen string              // where the standby listens
}

// groupNames are those of services, in order.
var groupNames = []string{"one", "two"}

func newServices(t *testing.T) *services {
	t.Helper()
	dir := tempDir(t)
	s := &services{pair: &pair{t: t, dir: dir, from: filepath.Join(dir, "from"), to: filepath.Join(dir, "to")},
		groups: map[string][]string{"one": {"a", "b"}, "two": {"c"}}}
	for _, trees := range s.groups {
		for _, name := range trees {
			mkdirs(t, filepath.Join(s.from, name, "t"), filepath.Join(s.to, name, "t"))
		}
	}
	mkdirs(t, filepath.Join(dir, "primary"), filepath.Join(dir, "standby"))
	return s
}

// sides are a tree's directories on the primary and on the standby.
func (s *services) sides(tree string) (from, to string) {
	return filepath.Join(s.from, tree, "t"), filepath.Join(s.to, tree, "t")
}

// start starts both services and pairs them over a relay. settings go into each
// group's part of both configurations, a line each.
func (s *services) start(seed uint64, settings ...string) {
	s.t.Helper()
	s.listen = freePort(s.t)
	addr, err := net.ResolveUDPAddr("udp", s.listen)
	if err != nil {
		s.t.Fatal(err)
	}
	s.relay = wiretest.NewRelay(s.t, addr, seed, wiretest.RelayOptions{})
	s.standby = s.service("standby", "secondary", s.to, s.listen, settings)
	s.primary = s.service("primary", "primary", s.from, "127.0.0.1:0", settings)
	s.standby.start()
	s.primary.start()
	s.standby.up()
	s.primary.up()
	s.join()
	s.linked()
}

// join pairs the nodes, for the first time or anew.
func (s *services) join() {
	s.t.Helper()
	token := s.standby.must("invite", "--replace", "--address", s.relay.Addr())
	token = strings.TrimSpace(token[strings.LastIndex(token, " ")+1:])
	s.primary.must("join", "--replace", token)
}

func (s *services) service(role, designated, trees, listen string, settings []string) *node {
	n := newNode(s.t, role, "", filepath.Join(s.dir, role))
	n.conf = n.state + ".yaml"
	conf := fmt.Sprintf("node: %s\ndesignated: %s\nlisten: %q\nstate: %s\ncontrol: %s.sock\ndisk_reserve: 8MB\ngroups:\n", role, designated, listen, n.state, n.state)
	for _, name := range groupNames {
		conf += "  - name: " + name + "\n    trees:\n"
		for _, tree := range s.groups[name] {
			conf += fmt.Sprintf("      - {name: %s, path: %s}\n", tree, filepath.Join(trees, tree, "t"))
		}
		for _, line := range settings {
			conf += "    " + line + "\n"
		}
	}
	write(s.t, n.conf, conf)
	return n
}

// current waits until the standby has applied everything done so far in every
// group, and compares the trees.
func (s *services) current() {
	s.t.Helper()
	for _, name := range groupNames {
		s.primary.must("--group", name, "barrier", "--wait", "applied", "--timeout", patience.String())
	}
	for _, trees := range s.groups {
		for _, tree := range trees {
			from, to := s.sides(tree)
			sameTrees(s.t, from, to)
		}
	}
}

// group returns what a node says of a group.
func (n *node) group(name string) (*control.Group, error) {
	s, err := n.status()
	if err != nil {
		return nil, err
	}
	for i := range s.Groups {
		if s.Groups[i].Name == name {
			return &s.Groups[i], nil
		}
	}
	return nil, fmt.Errorf("there is no group %s", name)
}

// TestServices: two groups of one pair are independent of each other. What stops
// one of them, the other doesn't notice.
func TestServices(t *testing.T) {
	t.Parallel()
	s := newServices(t)
	s.start(1)
	for _, tree := range []string{"a", "b", "c"} {
		from, _ := s.sides(tree)
		write(t, from+"/f", "first in "+tree)
	}
	s.current()
	s.standby.must("--group", "one", "pause")
	a, _ := s.sides("a")
	c, toC := s.sides("c")
	write(t, a+"/f", "while one is paused")
	write(t, c+"/f", "while one is paused")
	s.primary.must("--group", "two", "barrier", "--wait", "applied", "--timeout", patience.String())
	sameTrees(t, c, toC)
	if g, err := s.standby.group("one"); err != nil || g.Phase != control.PhasePaused {
		t.Errorf("group one: %+v, %v", g, err)
	}
	s.standby.must("--group", "one", "resume")
	s.current()
}
