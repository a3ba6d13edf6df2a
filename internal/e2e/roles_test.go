package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"repld/control"
	"repld/role"
)

// TestRolesCutover hands production over and back under load: nothing that was
// acknowledged is lost, never do both services work, and never do both nodes answer load
// balancers that they serve.
func TestRolesCutover(t *testing.T) {
	t.Parallel()
	p := newStations(t, 200*time.Millisecond)
	ask := p.askProduction()
	for begun, round := time.Now(), 0; round == 0 || time.Since(begun) < lasting(t, 0); round++ {
		for i, change := range []struct {
			by   *station // who is told; both are possible
			args []string
		}{{[]*station{p.a, p.b}[round%2], []string{"cutover", "--yes"}}, {[]*station{p.b, p.a}[round%2], []string{"failback", "--yes"}}} {
			p.w.longest()
			began := time.Now()
			change.by.change(change.args...)
			took := time.Since(began)
			p.w.works(1-i, 20)
			ask.handedOver(i, 1-i, began)
			t.Logf("%s on %s took %v; the service was away for %v", change.args[0], change.by.name, took.Round(time.Millisecond), p.w.longest().Round(time.Millisecond))
		}
	}
	ask.stop()
	p.end(nil)
}

// TestRolesFailover ends the machine that serves while a barrier is on its way: exactly
// what lies behind the promoted barrier is lost, the ledger names what was known of it,
// and all of it is in the salvage when the old primary rejoins.
func TestRolesFailover(t *testing.T) {
	t.Parallel()
	p := newStations(t, 3*time.Second)
	// One barrier of 20 MiB is more than half a minute on its way.
	unlimited := p.a.configure("every: 3s}\n", "every: 10m, late_after: 20m}\n    bandwidth: {limit: 600KB/s}\n")
	for range 40 {
		o, ok := p.w.do(512 << 10)
		if !ok {
			t.Fatalf("operation %d was not acknowledged", o.Number)
		}
	}
	p.a.node.must("barrier")
	var newest uint64 // that b has, and how much of the log it had soon after it
	var begun uint64
	poll(t, "b knows of a barrier that it doesn't have, and has some of its log", func() error {
		g, err := p.b.node.group(opsGroup)
		if err != nil {
			return err
		}
		captured, received := g.Barriers.Captured, g.Barriers.Received
		if received != nil && received.ID.Seq > newest {
			newest, begun = received.ID.Seq, g.Journal.Bytes
		}
		if captured == nil || captured.ID.Seq <= newest || g.Journal.Bytes < begun+2<<20 {
			return fmt.Errorf("captured %+v, received %+v, a log of %d bytes", captured, received, g.Journal.Bytes)
		}
		return nil
	})
	p.a.down()
	lost := p.failover()
	ledger := p.b.ledger(2)
	g := ledger.Groups[0]
	if g.Barriers == 0 || g.Bytes == 0 || g.SetAside == 0 {
		t.Errorf("the ledger doesn't say that a barrier was on its way: %+v", g)
	}
	named := 0
	for _, name := range g.Files { // nothing but what is given up
		var number int
		if n, _ := fmt.Sscanf(name, "up/ops/%d", &number); n != 1 {
			continue
		}
		if _, gone := lost[number]; gone {
			named++
		} else if _, acknowledged := p.w.acknowledged()[number]; acknowledged {
			t.Errorf("the ledger names %s, which is not lost", name)
		}
	}
	if named == 0 {
		t.Errorf("of %d lost operations the ledger names none: %+v", len(lost), g)
	}
	unlimited()
	t.Logf("the ledger: %d barriers up to %s behind %s, %d files, %d bytes; %d of %d lost operations are named", g.Barriers, g.Captured, g.Barrier, g.FileCount, g.Bytes, named, len(lost))
	p.a.node.start()
	p.a.node.up()
	p.returns(lost)
}

// failover promotes b on the word that a is down, which must be true: b needn't have seen
// the link's end. It returns what was acknowledged and is lost.
func (p *stations) failover() (lost map[int]serviceOp) {
	p.t.Helper()
	p.a.serves(false)
	p.b.refuses(int(control.ExitPeer), "failover", "--yes")
	p.b.serves(false)
	began := time.Now()
	p.b.node.must("failover", "--peer-is-down", "--yes")
	p.t.Logf("failover took %v", time.Since(began).Round(time.Millisecond))
	p.b.is(control.StatusProductionAlone)
	p.b.serves(true)
	p.w.works(1, 10)
	l := p.b.ledger(2)
	if l.Epoch != 2 || l.Of != 1 || l.Proof != role.ByClaim || l.Reached {
		p.t.Errorf("the ledger: %+v", l)
	}
	g := l.Groups[0]
	if old := p.b.barriers(1); len(old) == 0 || old[0] != g.Barrier.String() {
		p.t.Errorf("b was promoted at barrier %s, and holds %v of epoch 1", g.Barrier, old)
	}
	return p.w.behind(p.a, p.b, g.CutAt)
}

// TestRolesPartition divides the network, one way and both. While the old primary works
// on nothing changes, and nothing is lost. Where its machine is down and b was promoted,
// it holds when it comes back as long as the partition lasts; and is fenced after it.
func TestRolesPartition(t *testing.T) {
	t.Parallel()
	p := newStations(t, 200*time.Millisecond)
	rng := rand.New(rand.NewPCG(p.seed, 6))
	order := slices.Clone(severances)
	rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, how := range order[1:] {
		p.severed(how)
		p.net.mend(how)
		p.a.link(control.LinkUp)
		p.current(p.a)
		t.Logf("%s: the link was away, and nothing else happened", how)
	}
	p.divided(order[0], rng.IntN(2) == 0)
}

// severed divides the network: a works on, and nobody changes its role.
func (p *stations) severed(how severance) {
	p.t.Helper()
	p.net.sever(how)
	for i, s := range []*station{p.a, p.b} {
		s.link(control.LinkDown)
		s.serves(i == 0)
		s.refuses(int(control.ExitPeer), "cutover", "--yes")
	}
	p.b.refuses(int(control.ExitPeer), "failover", "--yes")
	p.w.works(0, 20)
	p.a.is(control.StatusProduction)
	p.b.is(control.StatusStandby)
}

// TestRolesPartitions goes through every partition in which b is promoted.
func TestRolesPartitions(t *testing.T) {
	if os.Getenv("REPLD_SOAK") == "" {
		t.Skip("TestRolesPartition has one of these; REPLD_SOAK=1m has them all")
	}
	for _, how := range severances {
		for _, killed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, the daemon killed %t", how, killed), func(t *testing.T) {
				newStations(t, 200*time.Millisecond).divided(how, killed)
			})
		}
	}
}

// divided promotes b behind a partition. What a has done since the link's end is lost. If
// only its service was killed, its daemon is still there and thinks that it serves.
func (p *stations) divided(how severance, killed bool) {
	p.t.Helper()
	p.t.Logf("the network is divided %s; the daemon is killed, too: %t", how, killed)
	p.severed(how)
	if killed {
		p.a.down()
	} else {
		p.a.killService()
	}
	lost := p.failover()
	if len(lost) < 10 {
		p.t.Errorf("%d acknowledged operations are lost: the partition has let some through", len(lost))
	}
	if !killed {
		p.a.is(control.StatusProduction)
		p.a.serves(false)
		p.a.node.kill()
	}
	p.a.node.start()
	p.a.node.up()
	p.a.node.unwell("held", "")
	p.a.is(control.StatusDown)
	p.a.serves(false)
	p.w.works(1, 10)
	p.net.mend(how)
	p.returns(lost)
}

// polls are the times at which load balancers were told that a node serves.
type polls struct {
	t     *testing.T
	stop  func()
	mu    sync.Mutex
	yes   []poll200
	asked [2]int
}

type poll200 struct {
	node       int
	begun, end time.Time // monotonic
}

// askProduction asks both nodes every 5 ms whether they serve.
func (p *stations) askProduction() *polls {
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	var all sync.WaitGroup
	a := &polls{t: p.t, stop: sync.OnceFunc(func() { cancel(); all.Wait() })}
	p.t.Cleanup(a.stop)
	for i := range p.net.spaces {
		client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, proto, address string) (net.Conn, error) {
			return p.net.dial(ctx, i, proto, address)
		}}}
		all.Go(func() {
			defer client.CloseIdleConnections()
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				a.ask(ctx, client, i)
				<-tick.C
			}
		})
	}
	return a
}

func (a *polls) ask(ctx context.Context, client *http.Client, node int) {
	req, err := http.NewRequestWithContext(ctx, http.MethodOptions, "http://"+httpAddr+"/production", nil)
	if err != nil {
		a.t.Error(err)
		return
	}
	begun := time.Now()
	resp, err := client.Do(req)
	end := time.Now()
	if err != nil {
		return // nobody is there, or too slow: no load balancer sends anybody there
	}
	resp.Body.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked[node]++
	if resp.StatusCode == http.StatusOK {
		a.yes = append(a.yes, poll200{node, begun, end})
	}
}

// handedOver wants of a time in which one node has taken over from another one that the
// former was never said to serve again after the latter was. The answers were given at
// some time in each poll, so it is wrong only if the one began after the other had ended.
func (a *polls) handedOver(from, to int, begun time.Time) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var before, after int
	var taken time.Time // by when the new one was said to serve
	for _, y := range a.yes {
		if y.node == to && y.begun.After(begun) && (taken.IsZero() || y.end.Before(taken)) {
			taken = y.end
		}
	}
	for _, y := range a.yes {
		switch {
		case !y.begun.After(begun):
		case y.node == to:
			after++
		case y.begun.After(taken):
			a.t.Errorf("%v after %s was said to serve, %s still was", y.begun.Sub(taken), []string{"a", "b"}[to], []string{"a", "b"}[from])
		default:
			before++
		}
	}
	if before == 0 || after == 0 {
		a.t.Errorf("%d polls say that the old node serves, %d the new one: too few for this test", before, after)
	}
	a.t.Logf("load balancers: the old node serves in %d polls, then the new one in %d (asked %v)", before, after, a.asked)
}
