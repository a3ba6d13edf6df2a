package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"repld/config"
	"repld/control"
	"repld/health"
	"repld/internal/testfs"
	"repld/lease/timing"
)

// etcd is a real one of one member, the whole cluster.
type etcd struct {
	t   *testing.T
	url string
	cmd *exec.Cmd
}

func startEtcd(t *testing.T) *etcd {
	t.Helper()
	program := testfs.NeedProgram(t, "etcd", "etcd-server")
	dir := t.TempDir()
	e := &etcd{t: t, url: "http://" + freeTCP(t)}
	peer := "http://" + freeTCP(t)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	e.cmd = exec.Command(program, "--name", "m", "--data-dir", filepath.Join(dir, "data"), "--listen-client-urls", e.url, "--advertise-client-urls", e.url,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "m="+peer)
	e.cmd.Stdout, e.cmd.Stderr = log, log
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = e.cmd.Process.Kill()
		_ = e.cmd.Wait()
	})
	poll(t, "etcd answers", func() bool {
		resp, err := http.Get(e.url + "/health")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return e
}

func (e *etcd) signal(s syscall.Signal) {
	e.t.Helper()
	if err := e.cmd.Process.Signal(s); err != nil {
		e.t.Fatal(err)
	}
}

func poll(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(40 * time.Second); !so(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func freeTCP(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", freeAddress(t))
		if err == nil {
			l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// cable is a TCP connection to etcd that a test cuts.
type cable struct {
	l    net.Listener
	mu   sync.Mutex
	cut  bool
	open []net.Conn
}

func layCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{l: l}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", strings.TrimPrefix(to, "http://"))
			c.mu.Lock()
			if err != nil || c.cut {
				in.Close()
				c.mu.Unlock()
				continue
			}
			c.open = append(c.open, in, out)
			c.mu.Unlock()
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				passing.Go(func() {
					_, _ = io.Copy(way[0], way[1]) // until one end is closed
					way[0].Close()
					way[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		l.Close()
		c.set(true)
		passing.Wait()
	})
	return c
}

// set cuts the cable or mends it.
func (c *cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	if cut {
		for _, conn := range c.open {
			conn.Close()
		}
		c.open = nil
	}
}

// coordinated configures a node whose role needs the lease; ttl 4 s, so that a loss is
// noticed after 2 s.
func coordinated(t *testing.T, dir, name, other string, d config.Designation, endpoint string) *config.Config {
	t.Helper()
	c := configure(t, dir, name, d)
	times, err := timing.Of(4*time.Second, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.Coordination = config.Coordination{Etcd: &config.Etcd{Endpoints: []string{endpoint}, TTL: times.TTL},
		FailoverAfter: time.Second, DemoteWithin: times.Demote, Timing: times}
	c.Hooks = exclusive(dir, name, other)
	note := func(list string) []string {
		return []string{"/bin/sh", "-c", "echo " + list + " $(date +%s%N) >> " + filepath.Join(dir, name+".times")}
	}
	c.Hooks.Promote = append(c.Hooks.Promote, config.Hook{Exec: note("promote"), Timeout: 10 * time.Second, OnError: config.Abort})
	c.Hooks.Demote = append(c.Hooks.Demote, config.Hook{Exec: note("demote"), Timeout: 10 * time.Second, OnError: config.Abort})
	return c
}

// when is the time of the first note of a node's hooks after a moment; zero if there is
// none.
func when(t *testing.T, dir, name, list string, after time.Time) time.Time {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name+".times"))
	if err != nil {
		return time.Time{}
	}
	for line := range strings.Lines(string(text)) {
		var word string
		var ns int64
		if _, err := fmt.Sscan(line, &word, &ns); err == nil && word == list && ns > after.UnixNano() {
			return time.Unix(0, ns)
		}
	}
	return time.Time{}
}

func neverBoth(t *testing.T, dir string) {
	t.Helper()
	if text, err := os.ReadFile(filepath.Join(dir, "both")); err == nil {
		t.Errorf("both services ran at once: %s", text)
	}
}

// decides waits until the policy for outages says something that contains words.
func (s *service) decides(words string) {
	s.t.Helper()
	s.until("the decision "+words, func() bool {
		c := s.status().Coordination
		return c != nil && strings.Contains(c.Failover, words)
	})
}

// TestAutomaticFailover has the machine of the primary gone: the standby takes over by
// itself, but neither during a planned outage nor while etcd doesn't answer.
func TestAutomaticFailover(t *testing.T) {
	t.Parallel()
	e, dir := startEtcd(t), t.TempDir()
	standby := launchWith(t, Options{Config: coordinated(t, dir, "standby", "primary", config.Secondary, e.url), abrupt: true}, "standby")
	primary := launchWith(t, Options{Config: coordinated(t, dir, "primary", "standby", config.Primary, e.url), abrupt: true}, "primary")
	pairUp(t, standby, primary)
	primary.is(control.StatusProduction)
	if c := primary.status().Coordination; !c.Held || !c.Answers {
		t.Errorf("the node that serves says %+v", c)
	}
	standby.decides("the peer is heard")
	write(t, filepath.Join(dir, "primary", "a", "file"), "one")
	primary.applied("one")

	// The cutover hands the lease over, there and back.
	primary.change(control.RoleRequest{Verb: control.VerbCutover})
	standby.is(control.StatusStandbyAsProduction)
	primary.change(control.RoleRequest{Verb: control.VerbFailback})
	primary.is(control.StatusProduction)
	standby.is(control.StatusStandby)
	primary.applied("one")
	primary.applied("two")

	if _, err := standby.client.Maintenance(t.Context(), control.MaintenanceRequest{For: control.Seconds(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if m := primary.status().Maintenance; m == nil || m.Left < control.Seconds(50*time.Minute) {
		t.Errorf("the peer of a node under maintenance says %+v", m)
	}
	gone := time.Now()
	stop(t, primary)
	if err := os.Remove(filepath.Join(dir, "primary.serves")); err != nil { // with its machine
		t.Fatal(err)
	}
	standby.decides("maintenance")
	standby.until("the end of the lease", func() bool { return standby.status().Coordination.Holder == "" })
	standby.is(control.StatusStandby)
	e.signal(syscall.SIGSTOP)
	standby.until("etcd's silence", func() bool { return !standby.status().Coordination.Answers })
	if _, err := standby.client.Maintenance(t.Context(), control.MaintenanceRequest{End: true}); err != nil {
		t.Fatal(err)
	}
	standby.decides("without a majority nobody promotes")
	standby.is(control.StatusStandby)
	e.signal(syscall.SIGCONT)
	standby.is(control.StatusProductionAlone)
	t.Logf("production again %v after the outage began, most of which was held back", time.Since(gone))
	if _, err := os.Stat(filepath.Join(standby.conf.State, "failovers", "4.json")); err != nil {
		t.Errorf("the ledger: %v", err)
	}

	primary = launch(t, primary.conf, "primary")
	primary.fenced()
	primary.change(control.RoleRequest{Verb: control.VerbRejoin})
	standby.is(control.StatusStandbyAsProduction)
	neverBoth(t, dir)
}

// TestCutOffFromCoordination cuts a node that serves off from etcd: it stops serving
// before the other one, which would hear it all the time, is promoted.
func TestCutOffFromCoordination(t *testing.T) {
	t.Parallel()
	e, dir := startEtcd(t), t.TempDir()
	line := layCable(t, e.url)
	standby := launch(t, coordinated(t, dir, "standby", "primary", config.Secondary, e.url), "standby")
	conf := coordinated(t, dir, "primary", "standby", config.Primary, "http://"+line.l.Addr().String())
	conf.HTTP = freeTCP(t)
	primary := launch(t, conf, "primary")
	pairUp(t, standby, primary)
	primary.is(control.StatusProduction)
	poll(t, "services run", func() bool { return !when(t, dir, "primary", "promote", time.Time{}).IsZero() })
	primary.applied("one")
	primary.applied("two")
	if code := asks(t, conf.HTTP); code != http.StatusOK {
		t.Errorf("/production says %d where production is", code)
	}

	cut := time.Now()
	line.set(true)
	standby.is(control.StatusProductionAlone)
	took := time.Since(cut)
	if code := asks(t, conf.HTTP); code != http.StatusServiceUnavailable {
		t.Errorf("/production says %d on a node that was cut off", code)
	}
	poll(t, "services run", func() bool { return !when(t, dir, "standby", "promote", cut).IsZero() })
	demoted, promoted := when(t, dir, "primary", "demote", cut), when(t, dir, "standby", "promote", cut)
	if demoted.IsZero() || !demoted.Before(promoted) {
		t.Errorf("the node that was cut off stopped at %v, the other one served from %v on", demoted, promoted)
	}
	t.Logf("demoted after %v, the other one promoted after %v", demoted.Sub(cut), took)
	primary.is(control.StatusDown)
	primary.raised(health.CoordinationDown, "")
	neverBoth(t, dir)

	line.set(false)
	primary.resolved(health.CoordinationDown, "")
	primary.fenced()
	primary.change(control.RoleRequest{Verb: control.VerbRejoin})
	standby.is(control.StatusStandbyAsProduction)
	neverBoth(t, dir)

	// One that stops on purpose is no outage: its services run on.
	stop(t, standby)
	primary.decides("the peer has said that it goes")
	primary.is(control.StatusProductionAsStandby)
}

// asks asks a node's load balancer endpoint.
func asks(t *testing.T, address string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/production", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
