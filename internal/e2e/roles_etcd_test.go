package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"repld/internal/testfs"
)

// TestRolesStormCoordinated is TestRolesStorm with a third machine, which has an etcd:
// nodes fail over by themselves, and lose it, each other, or both. The test stands for the
// watchdogs of the machines: where a daemon ends its service does at once.
func TestRolesStormCoordinated(t *testing.T) {
	t.Parallel()
	newRoleStorm(t, true).blow(1)
}

// witness is the third machine of a network, with an etcd, which is the whole cluster, and
// a cable to each of the others.
type witness struct {
	t     *testing.T
	net   *network
	space string
	cmd   *exec.Cmd
}

// uplink is a node's end of the cable to the witness.
const uplink = "uplink"

func witnessAddr(of, end int) string { return fmt.Sprintf("10.77.%d.%d", 100+of, end) }

func newWitness(t *testing.T, n *network) *witness {
	t.Helper()
	program := testfs.NeedProgram(t, "etcd", "etcd-server")
	ip := testfs.NeedProgram(t, "ip", "iproute2")
	w := &witness{t: t, net: n, space: n.spaces[0] + "-w"}
	t.Cleanup(func() { _ = exec.Command(ip, "netns", "del", w.space).Run() })
	run := func(args ...string) {
		t.Helper()
		if r := command(t, append([]string{ip}, args...)...); r.code != 0 {
			t.Fatalf("ip %v: %s", args, r.stderr)
		}
	}
	run("netns", "add", w.space)
	run("-n", w.space, "link", "set", "lo", "up")
	for i := range n.spaces {
		to := fmt.Sprintf("to-%d", i)
		run("-n", n.spaces[i], "link", "add", uplink, "type", "veth", "peer", "name", to, "netns", w.space)
		run("-n", n.spaces[i], "address", "add", witnessAddr(i, 1)+"/24", "dev", uplink)
		run("-n", w.space, "address", "add", witnessAddr(i, 2)+"/24", "dev", to)
		run("-n", n.spaces[i], "link", "set", uplink, "up")
		run("-n", w.space, "link", "set", to, "up")
	}
	dir := tempDir(t)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	w.cmd = exec.Command(testfs.NeedProgram(t, "nsenter", "util-linux"), "--net=/run/netns/"+w.space, program, "--name", "m", "--data-dir", filepath.Join(dir, "data"),
		"--listen-client-urls", "http://0.0.0.0:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
		"--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380", "--initial-cluster", "m=http://127.0.0.1:2380")
	w.cmd.Stdout, w.cmd.Stderr = log, log
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
	})
	for i := range n.spaces {
		client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, proto, address string) (net.Conn, error) {
			return n.dial(ctx, i, proto, address)
		}}}
		poll(t, "etcd answers", func() error {
			resp, err := client.Get("http://" + witnessAddr(i, 2) + ":2379/health")
			if err == nil {
				resp.Body.Close()
			}
			return err
		})
		client.CloseIdleConnections()
	}
	return w
}

// coordinate has a station's role depend on the witness.
func (w *witness) coordinate(i int, s *station) {
	w.t.Helper()
	conf, err := os.ReadFile(s.node.conf)
	if err != nil {
		w.t.Fatal(err)
	}
	write(w.t, s.node.conf, string(conf)+fmt.Sprintf(`coordination:
  etcd: {endpoints: ["http://%s:2379"], ttl: 5s}
  failover_after: 1s
  demote_within: 1s
`, witnessAddr(i, 2)))
	s.watchdog = true
}

// cut cuts a node off from etcd, until mend.
func (w *witness) cut(i int) { w.net.ip(i, "link", "set", uplink, "down") }

func (w *witness) mend(i int) { w.net.ip(i, "link", "set", uplink, "up") }

func (w *witness) signal(sig syscall.Signal) {
	w.t.Helper()
	if err := w.cmd.Process.Signal(sig); err != nil {
		w.t.Fatal(err)
	}
}

func (w *witness) calm() {
	w.signal(syscall.SIGCONT)
	w.mend(0)
	w.mend(1)
}

// etcdScenes are those of a pair with a witness.
func (k *roleStorm) etcdScenes() []func(seat int) {
	return []func(seat int){k.automatic, k.automatic, k.unwitnessed, k.unwitnessed, k.standsStill}
}

// automatic switches the machine that serves off for long enough.
func (k *roleStorm) automatic(seat int) {
	serving := k.both()[seat]
	if k.rng.IntN(3) == 0 {
		k.does(0, func() { serving.signal(syscall.SIGSTOP) }, "stop of %s", serving.name)
		k.does(1900*time.Millisecond, serving.off, "reset of %s by its watchdog", serving.name)
	} else {
		k.does(0, serving.off, "power off of %s", serving.name)
	}
	k.reaped(seat, k.between(5*time.Second, 11*time.Second))
	k.disturb(k.rng.IntN(2), 0, 9*time.Second)
}

// unwitnessed cuts one node or both off from etcd, and maybe from each other.
func (k *roleStorm) unwitnessed(seat int) {
	off := [][]int{{seat}, {1 - seat}, {0, 1}}[k.rng.IntN(3)]
	for _, i := range off {
		at := k.between(0, time.Second)
		k.does(at, func() { k.etcd.cut(i) }, "cut of %s from etcd", k.both()[i].name)
		k.quietly(at+k.between(time.Second, 9*time.Second), func() { k.etcd.mend(i) })
	}
	if k.rng.IntN(2) == 0 {
		how := severances[k.rng.IntN(len(severances))]
		at := k.between(0, time.Second)
		k.does(at, func() { k.net.divided(how) }, "division %s", how)
		k.quietly(at+k.between(0, 9*time.Second), func() { k.net.mended(how) })
	}
	k.disturb(k.rng.IntN(2), 0, 9*time.Second)
}

// standsStill stops etcd.
func (k *roleStorm) standsStill(seat int) {
	k.does(0, func() { k.etcd.signal(syscall.SIGSTOP) }, "stop of etcd")
	k.quietly(k.between(time.Second, 6*time.Second), func() { k.etcd.signal(syscall.SIGCONT) })
	k.disturb(k.rng.IntN(2), 0, 5*time.Second)
	if k.rng.IntN(2) == 0 {
		s := k.both()[k.rng.IntN(2)]
		k.does(k.between(0, 4*time.Second), func() { k.command(s, nil, "cutover", "--yes") }, "cutover on %s", s.name)
	}
}
