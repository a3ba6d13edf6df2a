package role

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// scene brings a pair to where a plan begins, and gives its order.
type scene struct {
	on     int                                                 // the node that carries out the plan
	set    func(p *pair)                                       // before the order
	order  func(ctx context.Context, p *pair, id string) error // gives it, once more if it came to nothing
	unless func(a, b State) bool                               // it came to something
	want   func(a, b State) bool                               // in the end
}

var scenes = map[Kind]scene{
	Cutover: {0, func(p *pair) {}, func(ctx context.Context, p *pair, id string) error {
		return p.n[0].carry(ctx, Order{Command: DoCutover}, id)
	},
		func(a, b State) bool { return a.Stored.Role != Production }, reversed},
	TakeOver: {1, func(p *pair) {}, func(ctx context.Context, p *pair, id string) error {
		return p.n[0].carry(ctx, Order{Command: DoCutover}, id)
	},
		func(a, b State) bool { return a.Stored.Role != Production }, reversed},
	Failover: {1, func(p *pair) { p.n[0].crash(); p.cut() },
		func(ctx context.Context, p *pair, id string) error {
			p.cut()
			return p.n[1].carry(ctx, Order{Command: DoFailover, PeerIsDown: true}, id)
		},
		func(a, b State) bool { return b.Stored.Role == Production }, fenced},
	StepDown: {0, func(p *pair) {},
		func(ctx context.Context, p *pair, id string) error {
			p.n[0].d.Tell(HealthChanged{}) // each run begins in good health
			if a, b := p.n[0].state(), p.n[1].state(); (b.Heard.Healthy || b.Heard.Session != a.Session) && a.Cause != SteppedDown {
				return errors.New("the peer's word isn't there")
			}
			return p.n[1].carry(ctx, Order{Command: DoFailover}, id)
		},
		func(a, b State) bool { return b.Stored.Role == Production }, fenced},
	ServeAlone: {0, func(p *pair) {
		p.n[1].crash()
		p.n[0].crash()
		p.n[0].start()
		p.wait("a to ask", func(a, b State) bool { return a.Phase == Asking })
		p.n[0].d.Tell(PatienceOver{})
	}, func(ctx context.Context, p *pair, id string) error {
		return p.n[0].carry(ctx, Order{Command: DoFailover, PeerIsDown: true}, id)
	},
		func(a, b State) bool { return a.Serves() }, normal},
	Rejoin: {0, func(p *pair) {
		p.n[0].crash()
		p.cut()
		if err := p.n[1].carry(p.t.Context(), Order{Command: DoFailover, PeerIsDown: true}, "before"); err != nil {
			p.t.Fatal(err)
		}
		p.n[0].start()
		p.wait("a to be fenced", fenced)
	}, func(ctx context.Context, p *pair, id string) error {
		return p.n[0].carry(ctx, Order{Command: DoRejoin}, id)
	},
		func(a, b State) bool { return a.Role() == Standby }, reversed},
}

// At every step of every plan the machine that carries it out stops, once before the
// step is done and once after. The plan goes on or back, an operator repeats the order
// if it came to nothing, and in the end all is as it was to be.
func TestCrashAtEveryStep(t *testing.T) {
	for _, fault := range Faults() {
		kind := Kind(strings.Split(fault, "/")[1])
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			sc, p := scenes[kind], newPair(t)
			p.n[0].start()
			p.n[1].start()
			p.wait("a normal pair", normal)
			if kind == Cutover && strings.Contains(fault, "/taken/") {
				t.Skip("the step waits for the peer: nothing is done here")
			}
			sc.set(p)
			n := p.n[sc.on]
			n.mu.Lock()
			n.fault = fault
			n.mu.Unlock()
			ctx, cancel := context.WithCancel(t.Context())
			ended := n.ended
			var first sync.WaitGroup
			first.Go(func() {
				p.repeat("first", func(id string) bool { return sc.order(ctx, p, id) == nil || isClosed(ended) })
			})
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				p.fatal("the fault point is not reached")
			}
			cancel()
			first.Wait()
			n.crash()
			n.start()
			if kind == ServeAlone {
				p.wait("a to ask", func(a, b State) bool { return a.Phase == Asking })
				n.d.Tell(PatienceOver{})
			}
			p.repeat("again", func(id string) bool {
				p.wait("a state that takes orders", func(a, b State) bool {
					return sc.unless(a, b) || a.Plan.IsZero() && b.Plan.IsZero() && (normal(a, b) || kind == Failover || kind == ServeAlone || kind == Rejoin && fenced(a, b) || kind == StepDown)
				})
				return sc.unless(p.n[0].state(), p.n[1].state()) || sc.order(t.Context(), p, id) == nil && sc.unless(p.n[0].state(), p.n[1].state())
			})
			for _, other := range p.n {
				if isClosed(other.ended) {
					other.start()
				}
			}
			p.wait("the end", sc.want)
		})
	}
}

// repeat gives an order until it needs no more: what a node knows of the other may be older
// than what the test sees, and then the order is refused.
func (p *pair) repeat(id string, order func(id string) bool) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(20 * time.Second)
	for tries := 0; !order(fmt.Sprintf("%s%d", id, tries)); tries++ {
		if time.Now().After(deadline) {
			p.t.Errorf("the order is refused again and again: a is %s, b is %s", p.n[0].state().describe(), p.n[1].state().describe())
			return
		}
		<-tick.C
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
