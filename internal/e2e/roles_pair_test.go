package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"repld/control"
	"repld/role"
)

// station is one machine's half of a pair whose roles change: a daemon, and a service that
// its hooks start and stop.
type station struct {
	t    *testing.T
	name string
	dir  string // everything of it
	tree string
	node *node

	boot     int             // of the machine; see powerOff
	watchdog bool            // the machine is reset where the daemon ends
	reset    chan struct{}   // closed when it was
	restored map[string]bool // the sets of the salvage that salvaged has looked through
	kept     map[string]string
	journals string // of all those sets
}

// opsGroup is the group of a station's tree, and httpAddr where its daemon answers load
// balancers.
const (
	opsGroup = "ops"
	httpAddr = "127.0.0.1:7441"
)

func newStation(t *testing.T, dir, name, designated, listen string, every time.Duration) *station {
	t.Helper()
	s := &station{t: t, name: name, dir: filepath.Join(dir, name), tree: filepath.Join(dir, name, "t"), boot: 1, restored: map[string]bool{}, kept: map[string]string{}}
	mkdirs(t, s.tree)
	t.Cleanup(func() {
		s.killService()
		if b, _ := os.ReadFile(filepath.Join(s.dir, "service.err")); len(b) > 0 {
			t.Errorf("the service of %s says: %s", name, b)
		}
	})
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	hook := func(verb string) string {
		return fmt.Sprintf("[%s, %s, %s, %s, %q, %s]", program, serviceWord, verb, s.dir, fmt.Sprint(os.Getpid()), bootWord(s.boot))
	}
	write(t, filepath.Join(s.dir, bootName), bootWord(s.boot))
	s.node = newNode(t, name, "", filepath.Join(s.dir, "state"))
	s.node.conf = s.node.state + ".yaml"
	write(t, s.node.conf, fmt.Sprintf(`node: %s
designated: %s
listen: %q
state: %s
control: %s.sock
disk_reserve: 8MB
groups:
  - name: %s
    trees: [{name: up, path: %s}]
    barrier: {every: %s}
    guard: {changed: 100%%}
hooks:
  promote: [{exec: %s, on_error: abort}]
  demote: [{exec: %s}]
`, name, designated, listen, s.node.state, s.node.state, opsGroup, s.tree, every, hook("start"), hook("stop")))
	return s
}

// killService ends the service with SIGKILL, and reports whether it ran.
func (s *station) killService() bool {
	s.t.Helper()
	ran, err := endService(s.dir, syscall.SIGKILL)
	if err != nil {
		s.t.Error(err)
	}
	return ran
}

// configure changes the configuration, and has the daemon, if it runs, read it again.
// It returns what changes it back, for the next start.
func (s *station) configure(old, next string) (back func()) {
	s.t.Helper()
	conf, err := os.ReadFile(s.node.conf)
	if err != nil || !strings.Contains(string(conf), old) {
		s.t.Fatalf("%v: there is no %q in %s", err, old, conf)
	}
	write(s.t, s.node.conf, strings.ReplaceAll(string(conf), old, next))
	if s.node.cmd != nil {
		if err := s.node.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			s.t.Fatal(err)
		}
		poll(s.t, s.name+" has read its configuration again", func() error {
			if log := s.node.must("events"); !strings.Contains(log, "the configuration was read again") {
				return fmt.Errorf("no event tells of it:\n%s", log)
			}
			return nil
		})
	}
	return func() { write(s.t, s.node.conf, string(conf)) }
}

// serves wants the service to run, or not to.
func (s *station) serves(want bool) {
	s.t.Helper()
	runs, err := serviceRuns(s.dir)
	if err != nil || runs != want {
		s.t.Fatalf("the service of %s runs: %t, %v; want %t", s.name, runs, err, want)
	}
}

// down is what the end of the machine is: service and daemon are killed.
func (s *station) down() {
	s.t.Helper()
	s.serves(true)
	s.killService()
	s.node.kill()
}

// is waits for a status.
func (s *station) is(want control.NodeStatus) {
	s.t.Helper()
	poll(s.t, s.name+" is "+string(want), func() error {
		s.node.alive()
		status, err := s.node.status()
		if err == nil && status.Status != want {
			err = fmt.Errorf("it is %s, in epoch %d: %v", status.Status, status.Epoch, status.Health)
		}
		return err
	})
}

// link waits until the link is up, or until it is down.
func (s *station) link(want control.Link) {
	s.t.Helper()
	poll(s.t, "the link of "+s.name+" is "+string(want), func() error {
		s.node.alive()
		status, err := s.node.status()
		if err == nil && (status.Peer == nil || status.Peer.Link != want) {
			err = fmt.Errorf("the peer is %+v", status.Peer)
		}
		return err
	})
}

// refuses wants a command to end with a code.
func (s *station) refuses(code int, args ...string) {
	s.t.Helper()
	if r := s.node.ctl(args...); r.code != code {
		s.t.Errorf("replctl %s on %s: exit %d, want %d\n%s%s", strings.Join(args, " "), s.name, r.code, code, r.stdout, r.stderr)
	}
}

// ledger reads that of the failover which made an epoch.
func (s *station) ledger(epoch int) (l role.Ledger) {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.node.state, "failovers", fmt.Sprintf("%d.json", epoch)))
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err != nil || len(l.Groups) != 1 {
		s.t.Fatalf("the ledger: %v; %s", err, b)
	}
	return l
}

// barriers are those of an epoch that a node holds, newest first.
func (s *station) barriers(epoch uint64) (all []string) {
	s.t.Helper()
	var list control.BarrierList
	if err := json.Unmarshal([]byte(s.node.must("barriers", "--json")), &list); err != nil {
		s.t.Fatal(err)
	}
	for _, b := range list.Barriers {
		if uint64(b.ID.Epoch) == epoch {
			all = append(all, b.ID.String())
		}
	}
	return all
}

// salvaged wants operations in what was kept when a node rejoined: each one's file, if its
// peer didn't have it, and its line in a journal.
func (s *station) salvaged(lost map[int]serviceOp) {
	s.t.Helper()
	var list control.SalvageList
	if err := json.Unmarshal([]byte(s.node.must("salvage", "list", "--json")), &list); err != nil {
		s.t.Fatal(err)
	}
	for _, set := range list.Sets {
		if s.restored[set.ID] {
			continue
		}
		s.restored[set.ID] = true
		to := filepath.Join(s.dir, fmt.Sprintf("restored%d", len(s.restored)))
		mkdirs(s.t, to)
		s.node.must("salvage", "restore", set.ID, "--to", to)
		err := filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if d.Name() == "journal" {
				s.journals += string(b)
			}
			s.kept[d.Name()] = string(b)
			return err
		})
		if err == nil {
			err = os.RemoveAll(to)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	for n, o := range lost {
		if there, _ := s.has(o, ""); !there && s.kept[filepath.Base(o.name())] != string(o.content()) {
			s.t.Errorf("the file of operation %d, which is lost, is not in the salvage of %s: %d sets, %d files", n, s.name, len(list.Sets), len(s.kept))
		}
		if !strings.Contains(s.journals, o.line()) {
			s.t.Errorf("the line of operation %d, which is lost, is in no journal in the salvage of %s", n, s.name)
		}
	}
	s.t.Logf("the salvage of %s, of %d lost operations: %d sets, %d files", s.name, len(lost), len(list.Sets), len(s.kept))
}

// stations is a pair on two machines. a is designated primary.
type stations struct {
	t    *testing.T
	seed uint64
	net  *network
	a, b *station
	w    *writer
}

// newStations starts a pair with a writer at work. A barrier is cut that often.
func newStations(t *testing.T, every time.Duration) *stations {
	t.Helper()
	p := prepareStations(t, every)
	p.join(networkAddr[1] + ":7440")
	return p
}

// prepareStations configures them, and starts nothing.
func prepareStations(t *testing.T, every time.Duration) *stations {
	t.Helper()
	p := &stations{t: t, seed: seeded(t), net: newNetwork(t)}
	dir := tempDir(t)
	p.a = newStation(t, dir, "a", "primary", networkAddr[0]+":7440", every)
	p.b = newStation(t, dir, "b", "secondary", networkAddr[1]+":7440", every)
	for i, s := range []*station{p.a, p.b} {
		s.node.user = p.net.enter(i)
		conf, err := os.ReadFile(s.node.conf)
		if err != nil {
			t.Fatal(err)
		}
		write(t, s.node.conf, strings.Replace(string(conf), "disk_reserve:", "http: "+httpAddr+"\ndisk_reserve:", 1))
	}
	return p
}

// join starts and pairs the nodes; b is called at an address.
func (p *stations) join(address string) {
	p.t.Helper()
	for _, s := range []*station{p.b, p.a} {
		s.node.start()
	}
	p.b.node.up()
	p.a.node.up()
	token := p.b.node.must("invite", "--address", address)
	p.a.node.must("join", strings.TrimSpace(token[strings.LastIndex(token, " ")+1:]))
	p.a.is(control.StatusProduction)
	p.b.is(control.StatusStandby)
	p.w = newWriter(p.t, p.a, p.b)
	p.w.works(0, 20)
	p.current(p.a)
}

// current waits until the standby has applied what the serving node has done.
func (p *stations) current(serving *station) {
	p.t.Helper()
	poll(p.t, "the standby of "+serving.name+" is current", func() error {
		if r := serving.node.ctl("barrier", "--wait", "applied", "--timeout", patience.String()); r.code != 0 {
			return fmt.Errorf("exit %d: %s", r.code, r.stderr)
		}
		return nil
	})
}

// change carries out a change of roles as soon as it isn't refused any more.
func (s *station) change(args ...string) {
	s.t.Helper()
	poll(s.t, strings.Join(args, " ")+" on "+s.name, func() error {
		s.node.alive()
		if r := s.node.ctl(args...); r.code != 0 {
			return fmt.Errorf("exit %d: %s", r.code, r.stderr)
		}
		return nil
	})
}

// returns takes a back after b was promoted, keeps what only a has, and ends in the
// roles of the beginning; then nothing but lost is missing anywhere.
func (p *stations) returns(lost map[int]serviceOp) {
	p.t.Helper()
	p.a.is(control.StatusDown)
	p.a.node.unwell("fenced", "")
	p.a.serves(false)
	p.a.change("rejoin", "--yes")
	p.a.is(control.StatusProductionAsStandby)
	p.b.is(control.StatusStandbyAsProduction)
	p.a.salvaged(lost)
	p.w.works(1, 10)
	p.current(p.b)
	p.b.change("failback", "--yes")
	p.w.works(0, 10)
	p.end(lost)
}

// end stops the writer and wants one writer at all times, all but lost on both nodes, and
// equal trees. a serves.
func (p *stations) end(lost map[int]serviceOp) {
	p.t.Helper()
	p.w.stop()
	p.a.is(control.StatusProduction)
	p.b.is(control.StatusStandby)
	p.current(p.a)
	oneWriter(p.t, p.a, p.b)
	p.w.complete(p.a, lost)
	p.w.complete(p.b, lost)
	sameTrees(p.t, p.a.tree, p.b.tree)
}
