package lease

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"repld/lease/timing"
)

// world is a pair of simulated nodes with a simulated etcd. Its clock is that of a synctest
// bubble.
type world struct {
	t      timing.Timing
	rng    *rand.Rand
	c      *cluster
	nodes  [2]*machine
	damage damage

	mu   sync.Mutex
	bad  string
	log  []string
	over bool // the history has ended
}

// damage is what is wrong in a world that must not hold the invariant.
type damage struct {
	name       string
	longHold   bool // the lease counts as held for all of its ttl
	sentLate   bool // a request counts as sent when its answer is there
	slow       bool // answers to one node take nearly as long as they may, the other one is near
	naive      bool // a deposed leader is believed
	early      bool // the lease is given back before the services have stopped
	suspended  bool // the clock stands still while the machine is suspended
	noWatchdog bool // although processes are stopped
	fedDog     bool // the watchdog gets its sign whoever has the lease
	unchecked  bool // services are started without a look at the lease
}

// faults are what happens in a history.
type faults struct{ cuts, stops, outages, deposed, releases, crashes bool }

var all = faults{true, true, true, true, true, true}

// machine is a node: a daemon, services, a watchdog.
type machine struct {
	w    *world
	name string

	mu      sync.Mutex
	keeper  *Keeper
	p       *process
	path    *path
	want    bool
	running bool // services
	shuts   bool // demote hooks run
	wants   bool // the role wants services: a gain was told, and no loss
	reset   *time.Timer
	cancel  context.CancelFunc
	ended   chan struct{}
	serves  int // how often services were started
}

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bad != "" || w.over {
		return
	}
	w.log = append(w.log, fmt.Sprintf("%9.3fs ", time.Since(w.c.begun).Seconds())+fmt.Sprintf(format, args...))
}

// judge looks for two nodes that serve.
func (w *world) judge() {
	n := 0
	for _, m := range w.nodes {
		m.mu.Lock()
		if m.running {
			n++
		}
		m.mu.Unlock()
	}
	if n == 2 {
		w.say("both nodes serve")
		w.mu.Lock()
		if w.bad == "" && !w.over {
			w.bad = "both nodes serve"
		}
		w.mu.Unlock()
	}
}

// pick returns a duration up to d, often a short one or the longest.
func (w *world) pick(d time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d <= 0 {
		return 0
	}
	switch w.rng.IntN(3) {
	case 0:
		return d
	case 1:
		return time.Duration(w.rng.Int64N(int64(d)/8 + 1))
	}
	return time.Duration(w.rng.Int64N(int64(d) + 1))
}

func (w *world) below(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

func (w *world) chance(n int) bool { return w.below(n) == 0 }

// The watchdog of a machine.
func (m *machine) arm(d time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reset = time.AfterFunc(d, m.die)
	if m.w.damage.fedDog {
		m.feed(m.reset, m.p)
	}
	return nil
}

// feed keeps a watchdog quiet as long as the process runs, whoever has the lease.
func (m *machine) feed(dog *time.Timer, p *process) {
	time.AfterFunc(m.w.t.Watchdog/2, func() {
		p.gate()
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.reset == dog && p == m.p {
			dog.Reset(m.w.t.Watchdog)
			m.feed(dog, p)
		}
	})
}

func (m *machine) kick() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reset != nil {
		m.reset.Reset(m.w.t.Watchdog)
	}
	return nil
}

func (m *machine) disarm() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reset != nil {
		m.reset.Stop()
	}
	m.reset = nil
	return nil
}

// die is a reset of the machine. It comes back later with nothing running.
func (m *machine) die() {
	m.mu.Lock()
	m.running, m.shuts, m.wants = false, false, false
	m.reset = nil
	m.mu.Unlock()
	m.w.say("%s is reset", m.name)
	m.end()
	time.Sleep(m.w.pick(20 * time.Second))
	m.begin(false)
}

// end stops the daemon as SIGKILL does; what runs goes on.
func (m *machine) end() {
	m.mu.Lock()
	cancel, ended := m.cancel, m.ended
	m.p.kill()
	m.cancel = nil
	m.mu.Unlock()
	if cancel != nil {
		cancel()
		<-ended
	}
}

// begin starts the daemon. Stopped tells it that its machine has just started.
func (m *machine) begin(mayRun bool) {
	w := m.w
	m.mu.Lock()
	defer m.mu.Unlock()
	w.mu.Lock()
	over := w.over
	w.mu.Unlock()
	if m.cancel != nil || over {
		return
	}
	m.p = &process{begun: w.c.begun, skips: w.damage.suspended}
	m.path = &path{c: w.c, p: m.p, rng: rand.New(rand.NewPCG(uint64(w.below(1<<60)), 1)), lag: w.t.Attempt * 3 / 4}
	if w.damage.slow {
		m.path.lag = time.Millisecond
		m.path.slow = m == w.nodes[0]
	}
	o := Options{
		Timing: w.t, Self: Identity{m.name, m.name}, Pair: "pair", Clock: m.p, store: m.path, Tell: m.tell(m.p), watchdog: dog{m, m.p},
	}
	if w.damage.noWatchdog {
		o.watchdog = nil
	}
	k, err := open(o)
	if err != nil {
		panic(err)
	}
	k.mayRun = mayRun
	if w.damage.sentLate {
		k.sentAt = func(_, after time.Duration) time.Duration { return after }
	}
	m.keeper = k
	k.Want(m.want)
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel, m.ended = cancel, make(chan struct{})
	go func() {
		defer close(m.ended)
		_ = k.Run(ctx) // the store of this world closes without an error
	}()
}

// dog is the watchdog as one run of the daemon has it.
type dog struct {
	m *machine
	p *process
}

func (d dog) arm(t time.Duration) error {
	if d.p.isDead() {
		return errCut
	}
	return d.m.arm(t)
}

func (d dog) kick() error {
	if d.p.isDead() {
		return errCut
	}
	return d.m.kick()
}

func (d dog) disarm() error {
	if d.p.isDead() {
		return errCut
	}
	return d.m.disarm()
}

// tell is what the role does with events of one run.
func (m *machine) tell(p *process) func(Event) {
	return func(e Event) {
		p.gate()
		m.w.say("%s: %+v", m.name, e)
		m.mu.Lock()
		k := m.keeper
		m.wants = e.Gained
		if !e.Gained {
			m.demote(k)
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		time.AfterFunc(m.w.pick(3*time.Second), func() {
			p.gate()
			m.mu.Lock()
			defer m.mu.Unlock()
			if k != m.keeper || !m.wants || !m.want || m.shuts {
				return
			}
			m.mu.Unlock()
			err := k.Starting()
			m.mu.Lock()
			if err != nil && !m.w.damage.unchecked || !m.wants {
				return
			}
			m.running = true
			m.serves++
			m.w.say("%s serves", m.name)
			m.mu.Unlock()
			m.w.judge()
			m.mu.Lock()
		})
	}
}

// demote runs the demote hooks; m.mu is held. They may take all of their time, and those
// that hang never end.
func (m *machine) demote(k *Keeper) {
	if m.shuts {
		return
	}
	m.shuts = true
	if m.w.damage.early {
		k.Stopped()
	}
	took := m.w.pick(m.w.t.Demote + m.w.t.Kill)
	time.AfterFunc(took, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.shuts || k != m.keeper {
			return
		}
		if !m.w.damage.noWatchdog && m.w.hang() {
			m.w.say("%s: the demote hooks hang", m.name)
			m.shuts = false
			return // the watchdog is all that is left
		}
		m.running, m.shuts = false, false
		m.w.say("%s has stopped", m.name)
		k.Stopped()
	})
}

func (w *world) hang() bool { return (w.damage.name == "" || w.damage.fedDog) && w.chance(10) }

// history lets things happen to a pair for a while.
func (w *world) history(f faults, steps int) {
	for range steps {
		time.Sleep(w.pick(w.t.TTL / 2))
		m := w.nodes[w.below(2)]
		m.mu.Lock()
		k, p, s := m.keeper, m.p, m.path
		m.mu.Unlock()
		switch w.below(12) {
		case 0, 1, 2:
			w.want(m, true)
		case 3:
			if f.releases {
				m.mu.Lock()
				m.want, m.wants = false, false
				m.demote(k)
				m.mu.Unlock()
				w.say("%s releases", m.name)
				k.Release()
			}
		case 4, 5:
			s.mu.Lock()
			s.cut = f.cuts && !s.cut
			w.say("%s: cut %v", m.name, s.cut)
			s.mu.Unlock()
		case 6, 7:
			if f.stops {
				d := w.pick(2 * w.t.TTL)
				w.say("%s: its daemon stands still for %v", m.name, d)
				p.stop(d)
			}
		case 8:
			w.c.mu.Lock()
			w.c.down = f.outages && !w.c.down
			w.say("etcd is down: %v", w.c.down)
			w.c.mu.Unlock()
		case 9:
			if f.deposed {
				w.say("another leader")
				w.c.depose(w.pick(w.t.TTL * 3))
			}
		case 10:
			if f.crashes && w.chance(2) {
				w.say("%s: its daemon is killed", m.name)
				m.end()
				m.mu.Lock()
				m.shuts, m.wants = false, false
				m.mu.Unlock()
				time.Sleep(w.pick(w.t.TTL))
				m.begin(true)
			}
		}
		w.judge()
	}
}

func (w *world) want(m *machine, want bool) {
	m.mu.Lock()
	m.want = want
	k := m.keeper
	m.mu.Unlock()
	k.Want(want)
}
