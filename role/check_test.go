package role

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

// search goes through all worlds that can be reached, the nearest first.
type search struct {
	r      *rules
	b      budget
	most   int    // worlds; 0 = all
	sample uint64 // every how many worlds are settled
}

// visit is a world with how it was reached.
type visit struct {
	w    world
	from *visit
	what string
}

func (v *visit) String() string {
	var lines []string
	for at := v; at != nil; at = at.from {
		lines = append([]string{at.what}, lines...)
	}
	return strings.Join(lines, "\n  ") + "\n" + v.w.String()
}

// run returns how many worlds were seen, and the first that breaks a promise.
func (c *search) run() (worlds int, bad *visit, why string) {
	seed := maphash.MakeSeed()
	seen := map[uint64]struct{}{}
	first := &visit{w: c.r.newWorld(c.b), what: "start"}
	queue := []*visit{first}
	for len(queue) > 0 {
		v := queue[0]
		queue[0] = nil
		queue = queue[1:]
		if c.most > 0 && worlds >= c.most {
			break
		}
		worlds++
		if why := c.judge(v, maphash.Comparable(seed, v.w)); why != "" {
			return worlds, v, why
		}
		c.successors(&v.w, func(w *world, format string, args ...any) {
			renumber(w)
			key := maphash.Comparable(seed, *w)
			if _, known := seen[key]; known {
				return
			}
			seen[key] = struct{}{}
			queue = append(queue, &visit{*w, v, fmt.Sprintf(format, args...)})
		})
	}
	return worlds, nil, ""
}

// walk goes through random histories, which lead further away than run comes. It
// returns how many it tried, and the first that breaks a promise.
func (c *search) walk(seed uint64, first, walks, steps int) (tried int, bad *visit, why string) {
	for tried = first; tried < first+walks; tried++ {
		random := rand.New(rand.NewPCG(seed, uint64(tried)))
		v := &visit{w: c.r.newWorld(c.b), what: "start"}
		for range steps {
			var next *visit
			n := 0
			c.successors(&v.w, func(w *world, format string, args ...any) {
				// The adversary takes its time: what it may do rarely comes rarely.
				weight := 3
				if w.left != v.w.left {
					weight = 1
				}
				if n += weight; random.IntN(n) < weight {
					next = &visit{*w, v, fmt.Sprintf(format, args...)}
				}
			})
			if next == nil {
				break
			}
			v = next
			if why := c.judge(v, random.Uint64()); why != "" {
				return tried, v, why
			}
		}
	}
	return tried, nil, ""
}

// seedOf returns the seed of random histories: REPLD_SEED, or another one each time.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("REPLD_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("REPLD_SEED=%d", seed)
	return seed
}

// judge checks the promises in a world, and in some what comes of it once everything
// works again.
func (c *search) judge(v *visit, hash uint64) string {
	if why := v.w.wrong(); why != "" {
		return why
	}
	for i := range v.w.n {
		if v.w.n[i].forgotten() {
			return "nobody carries out the plan of " + string(v.w.n[i].s.Self)
		}
	}
	both := v.w.n[0].services && v.w.n[1].services
	if c.sample == 0 || !both && hash%c.sample != 0 {
		return ""
	}
	after := v.w
	if !c.r.settle(&after) {
		return "it does not come to rest:\n" + after.String()
	}
	serving, split, stepped := 0, false, false
	for i := range after.n {
		if after.n[i].services {
			serving++
		}
		if after.n[i].services != after.n[i].s.Serves() && !after.n[i].s.stuck() {
			return "a node's services are not as its role has them:\n" + after.String()
		}
		split = split || after.n[i].s.Cause == SplitBrain
		stepped = stepped || after.n[i].s.Cause == SteppedDown // as an operator said
	}
	switch {
	case after.lost:
		return "after contact: data was replaced that nobody has any more\n" + after.String()
	case serving > 1:
		return "after contact both serve:\n" + after.String()
	case both && v.w.lied == 1 && (serving != 1 && !stepped || split):
		return "one false claim, and after contact nobody serves:\n" + after.String()
	}
	return ""
}

// forgotten: a plan that waits neither for an operator, nor for the peer, nor until this
// node may serve again has a step that is about to be done.
func (m *machine) forgotten() bool {
	if !m.up || m.s.Plan.IsZero() || m.jobs[0] != nil || m.s.stuck() {
		return false
	}
	held := m.s.Stored.Role == Production && m.s.Phase != Settled
	return !held || !m.s.Plan.Back && !PlanOf(m.s.Plan.Kind).past(m.s.Plan.Step)
}

// successors calls each with every world that one step leads to.
func (c *search) successors(from *world, each func(w *world, format string, args ...any)) {
	try := func(can bool, do func(w *world), format string, args ...any) {
		if can {
			w := *from
			do(&w)
			each(&w, format, args...)
		}
	}
	b := from.left
	for i := range from.n {
		m := &from.n[i]
		id := m.s.Self
		if !m.up {
			try(true, func(w *world) { c.r.start(w, i) }, "%s starts", id)
			continue
		}
		c.messages(from, i, try)
		for _, k := range []struct {
			can  bool
			left func(*budget) *int
			off  bool
			what string
		}{
			{b.crashes > 0, func(b *budget) *int { return &b.crashes }, true, "the machine of %s crashes"},
			{b.kills > 0, func(b *budget) *int { return &b.kills }, false, "the daemon of %s is killed"},
		} {
			try(k.can, func(w *world) { *k.left(&w.left)--; c.r.crash(w, i, k.off) }, k.what, id)
		}
		try(m.s.Phase == Asking, func(w *world) { c.r.tell(w, i, PatienceOver{}) }, "%s has waited for long enough", id)
		try(m.s.Link && (from.cut[i] || !from.n[1-i].up), func(w *world) { c.r.tell(w, i, LinkDown{}) }, "%s finds the link down", id)
		try(m.services && b.writes > 0, func(w *world) {
			w.left.writes--
			w.n[i].data |= 1 << w.writes
			w.writes++
		}, "%s writes", id)
		try(from.replicates(i) && from.n[1-i].data != m.data, func(w *world) { w.copyData(i) }, "%s replicates", id)
		if m.jobs[0] != nil {
			c.jobs(from, i, try)
		}
		c.orders(from, i, try)
		c.leases(from, i, try)
	}
	for i := range from.cut {
		try(!from.cut[i] && b.cuts > 0, func(w *world) { w.left.cuts--; w.cut[i] = true }, "the way to %s is cut", from.n[i].s.Self)
		try(from.cut[i], func(w *world) { w.cut[i] = false }, "the way to %s works", from.n[i].s.Self)
	}
	if h := from.lease.holder; h >= 0 {
		// A watchdog stops the services of a daemon that died before its lease expires.
		try(!from.n[h].up, func(w *world) { w.lease.holder, w.n[h].services = -1, false }, "the lease expires")
		// A daemon that knows it lost its lease has the time that its hooks take.
		stopped := from.n[h].up && from.lease.lost && from.n[h].jobs[0] == nil
		try(stopped, func(w *world) {
			w.lease.holder = -1
			if w.n[h].services && w.n[h].s.Phase == Asking { // left by the run before: the watchdog has no sign
				c.r.crash(w, h, true)
			}
		}, "the lease expires")
	}
}

type tryFunc func(can bool, do func(w *world), format string, args ...any)

func (c *search) messages(from *world, to int, try tryFunc) {
	if !from.cut[to] {
		for k, message := range from.net[to] {
			if message == nil {
				break
			}
			try(true, func(w *world) { c.r.receive(w, to, w.drop(to, k)) }, "%s receives %T %+v", from.n[to].s.Self, message, message)
			try(from.left.doubles > 0, func(w *world) { w.left.doubles--; c.r.receive(w, to, message) },
				"%s receives %T %+v, which stays in flight", from.n[to].s.Self, message, message)
		}
	}
	// It says regularly what it is, unless that is on its way already.
	m := &from.n[to]
	h := m.s.Hello()
	for _, message := range from.net[1-to] {
		if old, ok := message.(Hello); ok {
			old.Seq = h.Seq
			if old == h {
				return
			}
		}
	}
	old := m.s.Hello()
	old.Seq = from.n[1-to].s.Heard.Seq
	heard := from.n[1-to].s.Heard
	try(old != heard || from.n[1-to].s.undecided() || m.s.Cause == Granted, func(w *world) {
		w.n[to].s.Said = h.Seq
		w.send(1-to, h)
	}, "%s says hello", m.s.Self)
}

func (c *search) jobs(from *world, i int, try tryFunc) {
	id := from.n[i].s.Self
	w := *from
	if c.r.work(&w, i) {
		try(true, func(to *world) { *to = w }, "%s does %+v", id, from.n[i].jobs[0])
	}
	fails := func(do func(w *world)) {
		try(from.left.failures > 0, func(w *world) { w.left.failures--; do(w) }, "%s fails to do %+v", id, from.n[i].jobs[0])
	}
	switch job := from.n[i].jobs[0].(type) {
	case Do:
		fails(func(w *world) {
			w.n[i].pop()
			if c.r.fenced && job.Step == StepProof {
				c.r.tell(w, i, StepDone{job.Plan, job.Step})
				return
			}
			c.r.tell(w, i, StepFailed{job.Plan, job.Step, "it failed"})
		})
	case Fence:
		fails(func(w *world) {
			w.n[i].pop()
			c.r.tell(w, i, FenceDone{"it failed"})
		})
	}
}

func (c *search) orders(from *world, i int, try tryFunc) {
	m, peer := &from.n[i], &from.n[1-i]
	if from.left.orders == 0 || !m.s.Plan.IsZero() && !m.s.stuck() {
		return
	}
	order := func(o Order) {
		o.ID, o.Barrier = Nonce("order"+strconv.Itoa(from.serial)), true
		if _, _, err := c.r.next(m.s, o); err != nil {
			return
		}
		lie := o.PeerIsDown && (peer.up || peer.services)
		try(!lie || from.left.lies > 0, func(w *world) {
			w.left.orders--
			w.serial++
			if lie {
				w.left.lies--
				w.lied++
			}
			c.r.tell(w, i, o)
		}, "order on %s: %s, peer is down: %v (false: %v)", m.s.Self, o.Command, o.PeerIsDown, lie)
	}
	for _, command := range []Command{DoCutover, DoFailover, DoRejoin, DoStepDown} {
		order(Order{Command: command})
	}
	order(Order{Command: DoFailover, PeerIsDown: true})
}

func (c *search) leases(from *world, i int, try tryFunc) {
	m := &from.n[i]
	if !m.s.Policy.Coordinated {
		return
	}
	try(from.lease.holder < 0 && m.s.WantsLease() && !m.s.Lease, func(w *world) { w.acquire(c.r, i) }, "%s gets the lease", m.s.Self)
	try(m.s.Lease && from.left.losses > 0, func(w *world) {
		w.left.losses--
		w.lease.lost = true
		c.r.tell(w, i, LeaseLost{})
	}, "%s loses its lease", m.s.Self)
}

// deep returns n, or more with REPLD_CHECK_DEEP=factor.
func deep(n int) int {
	if f, err := strconv.Atoi(os.Getenv("REPLD_CHECK_DEEP")); err == nil && f > 0 {
		return n * f
	}
	return n
}

// histories are what the adversary may do.
var histories = []struct {
	name   string
	policy Policy
	b      budget
}{
	{"operators and crashes", Policy{}, budget{crashes: 1, cuts: 1, orders: 2, writes: 1}},
	{"one-way partitions", Policy{}, budget{cuts: 2, orders: 2, writes: 1}},
	{"killed daemons", Policy{}, budget{kills: 1, crashes: 1, orders: 1, cuts: 1}},
	{"failing steps", Policy{}, budget{failures: 1, cuts: 1, orders: 2}},
	{"steps that fail one after another", Policy{}, budget{failures: 3, kills: 1, orders: 3}},
	{"repeated messages", Policy{}, budget{doubles: 1, crashes: 1, orders: 2}},
	{"fences", Policy{HasFence: true}, budget{crashes: 1, cuts: 1, orders: 2, failures: 1}},
	{"leases", Policy{Coordinated: true}, budget{kills: 1, losses: 1, orders: 1, cuts: 1}},
	{"leases and crashes", Policy{Coordinated: true}, budget{crashes: 1, orders: 2, losses: 1}},
	{"leases and steps that fail", Policy{Coordinated: true}, budget{losses: 1, failures: 2, orders: 2}},
	{"a false claim", Policy{}, budget{lies: 1, orders: 2, cuts: 2, crashes: 1, writes: 2}},
	{"two false claims", Policy{}, budget{lies: 2, orders: 2, cuts: 2, crashes: 1, writes: 1}},
}

func TestNeverTwoWriters(t *testing.T) {
	for _, h := range histories {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			r := &rules{policy: [2]Policy{h.policy, h.policy}, next: Next}
			c := &search{r: r, b: h.b, most: deep(1500), sample: 64}
			worlds, bad, why := c.run()
			if bad != nil {
				t.Fatalf("%s\n  %s", why, bad)
			}
			tried, bad, why := c.walk(seedOf(t), 0, deep(60), 120)
			if bad != nil {
				t.Fatalf("%s\n  %s", why, bad)
			}
			t.Logf("%d worlds, %d random histories", worlds, tried)
		})
	}
}
