package lease

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"repld/internal/testfs"
	"repld/lease/timing"
)

// patience is how long something may take that has no time of its own.
const patience = 60 * time.Second

// member is a real etcd.
type member struct {
	name, dir, url, peer string
	cluster              string
	more                 []string // arguments
	cmd                  *exec.Cmd
}

// members starts a cluster of n real etcds on loopback.
func members(t *testing.T, n int) []*member {
	t.Helper()
	program := testfs.NeedProgram(t, "etcd", "etcd-server")
	dir := t.TempDir()
	all := make([]*member, n)
	var cluster []string
	for i := range all {
		m := &member{name: fmt.Sprintf("m%d", i), dir: filepath.Join(dir, fmt.Sprint(i)), url: "http://" + freePort(t), peer: "http://" + freePort(t)}
		all[i] = m
		cluster = append(cluster, m.name+"="+m.peer)
	}
	for _, m := range all {
		m.cluster = strings.Join(cluster, ",")
		m.start(t, program)
	}
	waitFor(t, "etcd answers", func() bool { return ask(t, all) == nil })
	return all
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (m *member) start(t *testing.T, program string) {
	t.Helper()
	log, err := os.OpenFile(m.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	m.cmd = exec.Command(program, "--name", m.name, "--data-dir", m.dir, "--listen-client-urls", m.url, "--advertise-client-urls", m.url,
		"--listen-peer-urls", m.peer, "--initial-advertise-peer-urls", m.peer, "--initial-cluster", m.cluster)
	m.cmd.Args = append(m.cmd.Args, m.more...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := m.cmd
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()
	})
}

func (m *member) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func urls(all []*member) []string {
	var found []string
	for _, m := range all {
		found = append(found, m.url)
	}
	return found
}

func ask(t *testing.T, all []*member) error {
	t.Helper()
	e, err := openEtcd(urls(all), "probe", nil, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, c := range e.clients {
		if _, err := e.look(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// waitFor polls a condition.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// keeperAt is a keeper at real endpoints.
type keeperAt struct {
	*Keeper
	gains, losses atomic.Int64
	kill          func()
}

func newReal(t *testing.T, name, pair string, ttl time.Duration, endpoints ...string) *keeperAt {
	t.Helper()
	times, err := timing.Of(ttl, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := &keeperAt{}
	r.Keeper, err = New(Options{Endpoints: endpoints, Timing: times, Self: Identity{name, name}, Pair: pair, Tell: func(e Event) {
		if e.Gained {
			r.gains.Add(1)
			return
		}
		r.losses.Add(1)
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.kill = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	t.Cleanup(r.kill)
	return r
}

// referee looks all the time whether two keepers count on the lease, and when the services
// of the first must have stopped at the latest.
func referee(t *testing.T, a, b *keeperAt) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var last [2]time.Time
		others := []*keeperAt{b, a}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			for i, k := range []*keeperAt{a, b} {
				if !k.Held() {
					continue
				}
				now := time.Now()
				last[i] = now
				// Unless the other one has said that its services have stopped, it has had all
				// that the formula gives it.
				if other := last[1-i]; !other.IsZero() && others[i].Status().MayRun && now.Sub(other) < a.t.Demote+a.t.Kill {
					t.Errorf("a node holds the lease %v after the other one counted on it, want %v at least", now.Sub(other), a.t.Demote+a.t.Kill)
					return
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// The store of a real etcd does what the simulated one does.
func TestEtcdStore(t *testing.T) {
	t.Parallel()
	ctx, endpoints := t.Context(), urls(members(t, 1))
	var stores [2]*etcd
	for i := range stores {
		var err error
		if stores[i], err = openEtcd(endpoints, "pair", nil, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		defer stores[i].close()
	}
	a, b := stores[0], stores[1]
	slayer, megadeth := holder{1, "a", "slayer", "1"}, holder{1, "b", "megadeth", "2"}
	g, epoch, err := a.acquire(ctx, 10*time.Second, slayer)
	if err != nil || epoch != (Epoch{}) || g.id == 0 || g.key == 0 {
		t.Fatal(g, epoch, err)
	}
	var taken *TakenError
	if _, _, err := b.acquire(ctx, 10*time.Second, megadeth); !errors.As(err, &taken) || taken.Holder != (Identity{"a", "slayer"}) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := a.renew(ctx, g); err != nil {
		t.Error(err)
	}
	first := Epoch{4, "a", "x"}
	if err := a.record(ctx, g, first); err != nil {
		t.Error(err)
	}
	if err := a.record(ctx, g, first); err != nil {
		t.Errorf("again: %v", err)
	}
	var wrong *EpochError
	if err := a.record(ctx, g, Epoch{4, "b", "y"}); !errors.As(err, &wrong) || wrong.Found != first {
		t.Errorf("another one of this number: %v", err)
	}
	// The next run of the same node goes on with the key; the run before has lost it.
	again, epoch, err := a.acquire(ctx, 10*time.Second, holder{1, "a", "slayer", "3"})
	if err != nil || epoch != first {
		t.Fatal(again, epoch, err)
	}
	if _, err := a.renew(ctx, g); !errors.Is(err, errGone) {
		t.Errorf("the run before renews: %v", err)
	}
	if err := a.record(ctx, g, Epoch{5, "a", "z"}); !errors.Is(err, errGone) {
		t.Errorf("the run before records: %v", err)
	}
	if err := errors.Join(a.revoke(ctx, again), a.revoke(ctx, again)); err != nil {
		t.Error(err)
	}
	g, epoch, err = b.acquire(ctx, 10*time.Second, megadeth)
	if err != nil || epoch != first {
		t.Fatal(g, epoch, err)
	}
	if _, err := a.renew(ctx, again); !errors.Is(err, errGone) {
		t.Errorf("a lease that was given back: %v", err)
	}
	if id, epoch, err := a.who(ctx); err != nil || id != (Identity{"b", "megadeth"}) || epoch != first {
		t.Errorf("found %+v, %+v, %v", id, epoch, err)
	}
	// A pair that is none any more: its other node never gets the lease, this one does.
	if err := errors.Join(b.bar(ctx, g, holder{1, "b", "megadeth, elsewhere", "2"}), b.revoke(ctx, g)); err != nil {
		t.Error(err)
	}
	if _, err := b.renew(ctx, g); !errors.Is(err, errGone) {
		t.Errorf("a lease that was given up: %v", err)
	}
	if _, _, err := a.acquire(ctx, 10*time.Second, slayer); !errors.As(err, &taken) || taken.Holder.Name != "megadeth, elsewhere" {
		t.Errorf("the other node of a pair that is none any more: %v", err)
	}
	if g, _, err = b.acquire(ctx, 10*time.Second, megadeth); err != nil {
		t.Fatal(err)
	}
	// What another version has written is not guessed at.
	if _, err := a.client().Put(ctx, a.epochKey, `{"format":2}`); err != nil {
		t.Fatal(err)
	}
	if _, err := b.renew(ctx, g); err == nil || !strings.Contains(err.Error(), "found format 2, want 1") {
		t.Errorf("another format: %v", err)
	}
}

func TestConfirmed(t *testing.T) {
	s := seen{member: 1, term: 5}
	for _, c := range []struct {
		before, after seen
		member, term  uint64
		want          bool
	}{
		{s, s, 1, 5, true},
		{s, seen{member: 1, term: 6}, 1, 5, false},
		{seen{member: 1, term: 4}, s, 1, 5, false},
		{s, s, 1, 4, false},
		{s, s, 2, 5, false},
		{s, seen{member: 2, term: 5}, 1, 5, false},
		{seen{member: 1}, seen{member: 1}, 1, 0, false},
	} {
		if got := confirmed(c.before, c.after, c.member, c.term); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// Of three members one may die, the leader or not; without a majority the lease is lost,
// and nobody gets it.
func TestMembersDie(t *testing.T) {
	t.Parallel()
	all := members(t, 3)
	a, b := newReal(t, "a", "pair", 8*time.Second, urls(all)...), newReal(t, "b", "pair", 8*time.Second, urls(all)...)
	referee(t, a, b)
	a.Want(true)
	waitFor(t, "a has the lease", a.Held)
	b.Want(true)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for n := range uint64(2) {
		if err := a.Record(ctx, Epoch{2, "a", "x"}); err != nil {
			t.Fatalf("with %d members: %v", 3-n, err)
		}
		if n == 0 {
			all[0].signal(t, syscall.SIGKILL)
			before := a.heardAt()
			waitFor(t, "the rest confirms the lease", func() bool { return a.heardAt() > before && a.Held() })
		}
	}
	all[1].signal(t, syscall.SIGKILL)
	waitFor(t, "a counts the lease as lost", func() bool { return !a.Held() && a.losses.Load() > 0 })
	a.Stopped()
	if b.Held() {
		t.Error("b has it without a majority")
	}
	gains := a.gains.Load() + b.gains.Load()
	all[1].start(t, testfs.NeedProgram(t, "etcd", "etcd-server"))
	waitFor(t, "one of them has it again", func() bool { return a.gains.Load()+b.gains.Load() > gains })
}

func (r *keeperAt) heardAt() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0
	}
	return r.heard
}

// An etcd that stands still and goes on doesn't give a lease to two.
func TestEtcdStandsStill(t *testing.T) {
	t.Parallel()
	all := members(t, 1)
	a, b := newReal(t, "a", "pair", 6*time.Second, urls(all)...), newReal(t, "b", "pair", 6*time.Second, urls(all)...)
	referee(t, a, b)
	a.Want(true)
	waitFor(t, "a has the lease", a.Held)
	waitFor(t, "b knows", func() bool { return b.Status().Holder.ID == "a" })
	b.Want(true)
	losses := a.losses.Load()
	all[0].signal(t, syscall.SIGSTOP)
	waitFor(t, "a counts the lease as lost", func() bool { return a.losses.Load() > losses && !a.Held() })
	a.Want(false) // its services have stopped, and it leaves the lease to the other one
	a.Stopped()
	all[0].signal(t, syscall.SIGCONT)
	waitFor(t, "b has it", b.Held)
}

// A node that is cut off stops before the other one begins; killed services' lease isn't
// given away before its time.
func TestNodeIsCutOff(t *testing.T) {
	t.Parallel()
	all := members(t, 1)
	r := newRelay(t, strings.TrimPrefix(all[0].url, "http://"))
	a, b := newReal(t, "a", "pair", 6*time.Second, "http://"+r.address()), newReal(t, "b", "pair", 6*time.Second, all[0].url)
	referee(t, a, b)
	a.Want(true)
	waitFor(t, "a has the lease", a.Held)
	b.Want(true)
	r.cut.Store(true)
	waitFor(t, "b has it", b.Held)
	a.Stopped()
	if a.Held() || a.losses.Load() == 0 {
		t.Error("a still counts on its lease")
	}
	if err := a.Status().Err; err == nil {
		t.Error("a knows of no trouble")
	}
	r.cut.Store(false)
	var taken *TakenError
	waitFor(t, "a hears who has it", func() bool { return errors.As(a.Status().Err, &taken) })
	if taken.Holder.ID != "b" {
		t.Errorf("found %+v", taken)
	}
	b.Stopped()
	b.Release()
	waitFor(t, "a has it again", a.Held)
	a.Stopped()
	a.kill()
	b.Want(true)
	waitFor(t, "b has it without waiting", b.Held)
}

// relay passes TCP on, or drops what comes in silence.
type relay struct {
	l   net.Listener
	cut atomic.Bool
}

func (r *relay) address() string { return r.l.Addr().String() }

func newRelay(t *testing.T, target string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l: l}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	pass := func(from, to net.Conn) {
		defer wg.Done()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 && !r.cut.Load() {
				_, err = to.Write(buf[:n])
			}
			if err != nil {
				// A stream with a hole in it means nothing more.
				_ = errors.Join(from.Close(), to.Close())
				return
			}
			if r.cut.Load() {
				_, _ = io.Copy(io.Discard, from) // until an end gives up
				_ = errors.Join(from.Close(), to.Close())
				return
			}
		}
	}
	wg.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", target)
			if err != nil {
				_ = from.Close()
				continue
			}
			mu.Lock()
			open = append(open, from, to)
			mu.Unlock()
			wg.Add(2)
			go pass(from, to)
			go pass(to, from)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return r
}
