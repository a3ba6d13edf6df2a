package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"repld/change"
	"repld/config"
	"repld/control"
	"repld/health"
)

// jumpClock is a clock whose wall time a test sets.
type jumpClock struct {
	change.Clock
	mu    sync.Mutex
	ahead time.Duration
}

func (c *jumpClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Clock.Now().Add(c.ahead)
}

func (c *jumpClock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// service is a node of a test's pair, in this process.
type service struct {
	t      *testing.T
	client *control.Client
	clock  *jumpClock
	reload chan struct{}
	end    func() error
	// over is closed when the node has ended, with failed; crashed: it was to end with an
	// error.
	over    chan struct{}
	failed  error
	crashed bool

	mu   sync.Mutex
	conf *config.Config
}

// services starts a pair with two groups, the first of two trees, and joins it.
func services(t *testing.T) (primary, standby *service, dir string) {
	t.Helper()
	dir = t.TempDir()
	standby = start(t, dir, "standby", config.Secondary)
	primary = start(t, dir, "primary", config.Primary)
	pairUp(t, standby, primary)
	return primary, standby, dir
}

// start starts a node of its own directory below dir.
func start(t *testing.T, dir, name string, designated config.Designation) *service {
	t.Helper()
	return launch(t, configure(t, dir, name, designated), name)
}

// configure makes a node's configuration and its trees.
func configure(t *testing.T, dir, name string, designated config.Designation) *config.Config {
	t.Helper()
	tree := func(name string) config.Tree {
		path := filepath.Join(dir, string(designated), name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return config.Tree{Name: name, Path: path, Watch: config.WatchAuto}
	}
	state := filepath.Join(dir, name+".state")
	return &config.Config{
		Node: name, Designated: designated, Listen: freeAddress(t), State: state, Control: filepath.Join(dir, name+".sock"),
		Groups: []config.Group{
			{Name: "one", Trees: []config.Tree{tree("a"), tree("b")}, GroupLive: config.DefaultGroup()},
			{Name: "two", Trees: []config.Tree{tree("c")}, GroupLive: config.DefaultGroup()},
		},
		Live: config.Live{DiskReserve: config.Reserve{Bytes: 1}},
	}
}

// handedOut are the ports that freeAddress has given to tests of this process.
var handedOut sync.Map

// freeAddress returns an address that stays free while a node that has ended isn't
// started again: its port is below those that the kernel gives to whoever asks for any.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := 10000 + rand.IntN(20000)
		if _, taken := handedOut.LoadOrStore(port, true); taken {
			continue
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		pc, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		pc.Close()
		return address
	}
	t.Fatal("no port is free")
	return ""
}

// launch starts a node by its configuration.
func launch(t *testing.T, c *config.Config, name string) *service {
	t.Helper()
	return launchWith(t, Options{Config: c}, name)
}

// launchWith starts a node with further options.
func launchWith(t *testing.T, o Options, name string) *service {
	t.Helper()
	c := o.Config
	s := &service{t: t, conf: c, clock: &jumpClock{Clock: change.SystemClock()}, reload: make(chan struct{}), over: make(chan struct{})}
	s.client = control.NewClient(c.Control, control.ClientOptions{})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() {
		o.Clock, o.Reload = s.clock, s.reload
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", name)
		o.Reread = func() (*config.Config, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.conf, nil
		}
		if o.patience == 0 {
			o.patience = 500 * time.Millisecond
		}
		s.failed = Run(ctx, o)
		close(s.over)
	}()
	s.end = sync.OnceValue(func() error {
		cancel()
		<-s.over
		return s.failed
	})
	t.Cleanup(func() {
		s.client.Close()
		if err := s.end(); err != nil && !s.crashed {
			t.Errorf("%s ended with %v", name, err)
		}
	})
	s.until("an answer", func() bool {
		_, err := s.client.Status(t.Context())
		if err != nil && s.ended() && !errors.Is(s.failed, errFault) {
			t.Fatalf("%s has ended instead of starting: %v", name, s.failed)
		}
		return err == nil || s.ended()
	})
	return s
}

// ended reports whether the node has ended by itself.
func (s *service) ended() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// until polls a condition.
func (s *service) until(what string, done func() bool) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(40 * time.Second); !done(); <-tick.C {
		if time.Now().After(end) {
			var status []byte
			if now, err := s.client.Status(s.t.Context()); err == nil {
				status, _ = json.Marshal(now)
			}
			s.t.Fatalf("waited in vain for %s; status: %s", what, status)
		}
	}
}

func (s *service) status() *control.Status {
	s.t.Helper()
	status, err := s.client.Status(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

// has reports whether a condition stands.
func (s *service) has(code health.Code, group string) bool {
	for _, c := range s.status().Health {
		if c.Code == code && c.Group == group {
			return true
		}
	}
	return false
}

// raised and resolved wait for a condition.
func (s *service) raised(code health.Code, group string) {
	s.t.Helper()
	s.until(string(code), func() bool { return s.has(code, group) })
}

// fenced waits for a node that knows of its peer's promotion, and that the peer serves.
func (s *service) fenced() {
	s.t.Helper()
	s.raised(health.Fenced, "")
	s.until("a peer that serves", func() bool {
		peer := s.status().Peer.Status
		return peer == control.StatusProductionAlone || peer == control.StatusStandbyAsProduction
	})
}

func (s *service) resolved(code health.Code, group string) {
	s.t.Helper()
	s.until("the end of "+string(code), func() bool { return !s.has(code, group) })
}

// applied waits until the standby is at what the primary has.
func (s *service) applied(group string) {
	s.t.Helper()
	s.until("a barrier of "+group, func() bool {
		_, err := s.client.Barrier(s.t.Context(), control.BarrierRequest{Group: group, Wait: control.BarrierApplied, Timeout: control.Seconds(20 * time.Second)})
		return err == nil
	})
}

// set has the node read another configuration.
func (s *service) set(edit func(*config.Config)) {
	s.mu.Lock()
	next := *s.conf
	next.Groups = append([]config.Group{}, s.conf.Groups...)
	edit(&next)
	s.conf = &next
	s.mu.Unlock()
	s.reload <- struct{}{}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, path, text string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != text {
		t.Errorf("%s holds %q (%v), want %q", path, got, err, text)
	}
}

// TestGroupFailsAlone has the root of one group's tree go and come back, at work and
// over a restart: the other group goes on.
func TestGroupFailsAlone(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	root := filepath.Join(dir, "secondary", "c")
	if err := os.Rename(root, root+".away"); err != nil {
		t.Fatal(err)
	}
	standby.raised(health.GuardHalted, "two")
	write(t, filepath.Join(dir, "primary", "a", "f"), "one goes on")
	primary.applied("one")
	holds(t, filepath.Join(dir, "secondary", "a", "f"), "one goes on")

	if err := os.Rename(root+".away", root); err != nil {
		t.Fatal(err)
	}
	standby.resolved(health.GuardHalted, "two")
	write(t, filepath.Join(dir, "primary", "c", "f"), "two goes on")
	primary.applied("two")
	holds(t, filepath.Join(root, "f"), "two goes on")
}

// TestGroupCantBeOpened puts something else in the place of a group's catalog, so that
// it can't be opened: a condition says so, and goes with the reason.
func TestGroupCantBeOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	catalog := filepath.Join(dir, "standby.state", "groups", "two", "catalog.db")
	if err := os.MkdirAll(catalog, 0o700); err != nil { // a directory in its place
		t.Fatal(err)
	}
	standby := start(t, dir, "standby", config.Secondary)
	standby.raised(health.GroupFailed, "two")
	if _, err := standby.client.Barriers(t.Context(), control.BarriersRequest{Group: "two"}); control.ExitOf(err) != control.ExitRefused {
		t.Errorf("barriers of a group that doesn't work: %v", err)
	}
	if _, err := standby.client.Barriers(t.Context(), control.BarriersRequest{Group: "one"}); err != nil {
		t.Errorf("barriers of the other group: %v", err)
	}
	if err := os.Remove(catalog); err != nil {
		t.Fatal(err)
	}
	standby.resolved(health.GroupFailed, "two")
	if _, err := standby.client.Barriers(t.Context(), control.BarriersRequest{Group: "two"}); err != nil {
		t.Error(err)
	}
}

// TestLinkDown ends the standby, and starts it again.
func TestLinkDown(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	if primary.has(health.LinkDown, "") {
		t.Error("link-down stands while there is a link")
	}
	if err := standby.end(); err != nil {
		t.Fatal(err)
	}
	primary.raised(health.LinkDown, "")
	write(t, filepath.Join(dir, "primary", "b", "f"), "meanwhile")
	if _, err := primary.client.Barrier(t.Context(), control.BarrierRequest{Group: "one", Wait: control.BarrierApplied}); control.ExitOf(err) != control.ExitPeer {
		t.Errorf("a barrier to be applied without a link: %v", err)
	}
	standby = again(t, standby)
	primary.resolved(health.LinkDown, "")
	primary.applied("one")
	holds(t, filepath.Join(dir, "secondary", "b", "f"), "meanwhile")
	if found := standby.status().Health; len(found) > 0 {
		t.Errorf("health after the link came back: %+v", found)
	}
}

// TestDiskLow raises the reserve beyond any disk, and lowers it again.
func TestDiskLow(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	standby.set(func(c *config.Config) { c.DiskReserve = config.Reserve{Bytes: 1 << 60} })
	standby.raised(health.DiskLow, "")
	write(t, filepath.Join(dir, "primary", "c", "f"), "late")
	_, err := primary.client.Barrier(t.Context(), control.BarrierRequest{Group: "two", Wait: control.BarrierReceived, Timeout: control.Seconds(time.Second / 2)})
	if control.ExitOf(err) != control.ExitTimeout {
		t.Errorf("a standby whose disk is short took a barrier in: %v", err)
	}
	standby.set(func(c *config.Config) { c.DiskReserve = config.Reserve{Bytes: 1} })
	standby.resolved(health.DiskLow, "")
	primary.applied("two")
	holds(t, filepath.Join(dir, "secondary", "c", "f"), "late")
}

// TestClockJump has the wall clock of either node jump by hours either way: that is
// said, and nothing else changes.
func TestClockJump(t *testing.T) {
	t.Parallel()
	primary, standby, dir := services(t)
	only := func(s *service) {
		t.Helper()
		for _, c := range s.status().Health {
			if c.Code != health.ClockSkew {
				t.Errorf("after a jump of the clock: %s: %s", c.Code, c.Text)
			}
		}
	}
	for i, node := range []*service{primary, standby} {
		for _, by := range []time.Duration{5 * time.Hour, -7 * time.Hour} {
			node.clock.jump(by)
			primary.raised(health.ClockSkew, "")
			standby.raised(health.ClockSkew, "")
			write(t, filepath.Join(dir, "primary", "a", "f"), by.String()+node.conf.Node)
			primary.applied("one")
			holds(t, filepath.Join(dir, "secondary", "a", "f"), by.String()+node.conf.Node)
			for _, s := range []*service{primary, standby} {
				only(s)
				for _, g := range s.status().Groups {
					if g.Lag == nil || g.Lag.Seconds == nil || *g.Lag.Seconds > control.Seconds(time.Minute) || *g.Lag.Seconds < 0 {
						t.Errorf("node %d, lag of %s after a jump by %v: %v", i, g.Name, by, g.Lag)
					}
				}
			}
			node.clock.jump(-by)
			primary.resolved(health.ClockSkew, "")
			standby.resolved(health.ClockSkew, "")
		}
	}
}

// TestGroupOfOneNodeOnly has a primary with a group that its standby doesn't have:
// that group says so, the others replicate.
func TestGroupOfOneNodeOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	primary := start(t, dir, "primary", config.Primary)
	standby := start(t, dir, "standby", config.Secondary)
	if err := standby.end(); err != nil {
		t.Fatal(err)
	}
	conf := *standby.conf
	conf.Groups = conf.Groups[:1]
	standby.conf = &conf
	standby = again(t, standby)
	invited, err := standby.client.Invite(t.Context(), control.InviteRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := primary.client.Join(t.Context(), control.JoinRequest{Token: invited.Token}); err != nil {
		t.Fatal(err)
	}
	primary.applied("one")
	primary.raised(health.LinkDown, "two")
	for _, c := range primary.status().Health {
		if c.Group == "two" && !strings.Contains(c.Text, `no group "two"`) {
			t.Errorf("the condition says %q", c.Text)
		}
	}
}
