package role

import (
	"fmt"
	"slices"
	"strconv"
)

// world is a whole pair: two nodes, what is in flight between them, who holds the
// lease, and how much the adversary may still do. Worlds compare with ==.
type world struct {
	n     [2]machine
	cut   [2]bool // nothing gets to node i any more
	net   [2][slots]any
	lease struct {
		holder int  // -1 = nobody
		lost   bool // the holder was told so
		epoch  Epoch
	}
	left   budget
	serial int  // of orders
	writes int  // made so far
	lied   int  // claims that were false
	lost   bool // data that nobody has any more
}

const slots = 3

// machine is a node with its services and data.
type machine struct {
	s        State
	up       bool // the daemon runs
	off      bool // the machine was off before the daemon's next start
	services bool
	boots    int
	data     uint16 // the writes that it has
	salvaged uint16
	jobs     [4]Effect
}

// budget is how often each may still happen.
type budget struct{ crashes, kills, cuts, orders, lies, failures, doubles, losses, writes int }

// rules is what the checker varies: the real ones, or broken ones.
type rules struct {
	policy  [2]Policy
	next    func(s State, e Event) (State, []Effect, error)
	restart func(Stored) Stored // what a node finds after a crash
	// fenced: a fence hook that fails counts as a success.
	fenced bool
	// unfenced: the fence hook after a restart does nothing.
	unfenced bool
}

func (r *rules) newWorld(b budget) world {
	var w world
	w.left = b
	w.lease.holder = -1
	first := Epoch{1, "a", "one"}
	w.lease.epoch = first
	for i, id := range []ID{"a", "b"} {
		m := &w.n[i]
		peer := ID("b")
		if i == 1 {
			peer = "a"
		}
		m.s.Stored = Stored{Self: id, Peer: peer, Designated: Secondary, Epoch: first, Role: Standby}
		if i == 0 {
			m.s.Designated, m.s.Stored.Role = Primary, Production
		}
		r.start(&w, i)
	}
	r.settle(&w)
	for i := range w.n {
		w.n[i].s.Said, w.n[i].s.Heard.Seq = 0, 0
	}
	w.net = [2][slots]any{}
	return w
}

func (r *rules) start(w *world, i int) {
	m := &w.n[i]
	m.boots++
	m.up = true
	if r.restart != nil {
		m.s.Stored = r.restart(m.s.Stored)
	}
	session := Nonce(string(m.s.Self) + strconv.Itoa(m.boots))
	r.tell(w, i, Start{Session: session, Policy: r.policy[i], Rebooted: m.off})
	m.off = false
}

func (r *rules) crash(w *world, i int, machineOff bool) {
	m := &w.n[i]
	m.up = false
	m.jobs = [4]Effect{}
	m.s.Live = Live{}
	if machineOff {
		m.services, m.off = false, true
	}
}

// tell applies an event and does at once what a driver does at once.
func (r *rules) tell(w *world, i int, e Event) {
	m := &w.n[i]
	s, effects, err := r.next(m.s, e)
	if err != nil {
		return
	}
	m.s = s
	for _, effect := range effects {
		switch effect := effect.(type) {
		case Say:
			h := m.s.Hello()
			m.s.Said = h.Seq
			w.send(1-i, h)
		case SendGrant:
			w.send(1-i, GrantCame(effect))
		case AnswerStepDown:
			w.send(1-i, effect)
		case Forward:
			w.send(1-i, effect.Order)
		case Release:
			if w.lease.holder == i {
				w.lease.holder = -1
			}
		case Enforce, Fence:
			m.jobs = [4]Effect{effect}
		case Do:
			m.push(effect)
			// Steps that nobody outside can see end at once where nothing may fail: a crash
			// in them is a crash before the next one. The test of the driver stops in each.
			if w.left.failures == 0 && slices.Contains(unseen, effect.Step) && m.jobs[0] == any(effect) {
				m.pop()
				r.tell(w, i, StepDone{effect.Plan, effect.Step})
			}
		case Undo:
			m.push(effect)
		}
	}
}

var unseen = []Name{StepReady, StepDatabases, StepLedger, StepApply, StepOpen, StepCheck}

func (m *machine) push(e Effect) {
	for k := range m.jobs {
		if m.jobs[k] == nil {
			m.jobs[k] = e
			return
		}
	}
	panic("more jobs than the model has room for")
}

func (m *machine) pop() Effect {
	e := m.jobs[0]
	copy(m.jobs[:], m.jobs[1:])
	m.jobs[len(m.jobs)-1] = nil
	return e
}

// send puts a message in flight. A link that is full loses the oldest one: loss needs
// no transition of its own, for what is never delivered is lost.
func (w *world) send(to int, message any) {
	q := &w.net[to]
	for k := range q {
		if q[k] == nil {
			q[k] = message
			return
		}
	}
	copy(q[:], q[1:])
	q[slots-1] = message
}

func (w *world) drop(to, k int) any {
	q := &w.net[to]
	message := q[k]
	copy(q[k:], q[k+1:])
	q[slots-1] = nil
	return message
}

func (r *rules) receive(w *world, to int, message any) {
	switch message := message.(type) {
	case AnswerStepDown:
		m := &w.n[to]
		if m.s.Plan.ID != message.Plan || m.s.Plan.Step != StepProof {
			return
		}
		if message.Refusal != "" {
			r.tell(w, to, StepFailed{message.Plan, StepProof, "refused"})
		} else {
			r.tell(w, to, StepDone{message.Plan, StepProof})
		}
	case Event:
		r.tell(w, to, message)
	}
}

// linked reports whether both directions work and both daemons run.
func (w *world) linked() bool { return !w.cut[0] && !w.cut[1] && w.n[0].up && w.n[1].up }

// work does the next job of a node. It returns false if the job can only wait.
func (r *rules) work(w *world, i int) bool {
	m := &w.n[i]
	switch job := m.jobs[0].(type) {
	case Enforce:
		m.pop()
		m.services = job.Hooks == PromoteHooks
		return true
	case Fence:
		m.pop()
		if !r.unfenced {
			r.crash(w, 1-i, true)
		}
		r.tell(w, i, FenceDone{})
		return true
	case Undo:
		m.pop()
		if _, ok := m.s.current(job.Plan, job.Step); ok && m.s.Plan.Back {
			if job.Step == StepDemote {
				m.services = true
			}
			r.tell(w, i, StepDone{job.Plan, job.Step})
		}
		return true
	case Do:
		if _, ok := m.s.current(job.Plan, job.Step); !ok || m.s.Plan.Back {
			m.pop()
			return true
		}
		return r.step(w, i, job)
	}
	return false
}

func (r *rules) step(w *world, i int, job Do) bool {
	m, peer := &w.n[i], &w.n[1-i]
	failure := ""
	switch job.Step {
	case StepDemote:
		m.services = false
	case StepServices:
		m.services = true
	case StepBarrier:
		if !w.linked() || peer.s.Stored.Role != Standby || peer.s.Epoch != m.s.Epoch {
			failure = "the peer does not apply it"
			break
		}
		w.copyData(i)
	case StepSalvage:
		m.salvaged |= m.data
	case StepJoin:
		if !w.linked() || peer.s.Direction() != Sends || peer.s.Epoch != m.s.Epoch {
			return false
		}
		w.copyData(1 - i)
	case StepPromote:
		if !m.s.Policy.Coordinated {
			break
		}
		w.acquire(r, i)
		// The coordination compares and sets.
		if e := w.lease.epoch; w.lease.holder != i || e != m.s.Plan.Target && (e.Number >= m.s.Plan.Target.Number || e != m.s.Epoch) {
			failure = "the lease or the epoch is somebody else's"
			break
		}
		w.lease.epoch = m.s.Plan.Target
	case StepProof:
		switch m.s.Plan.Proof {
		case ByStepDown:
			ask := StepDownAsked{job.Plan, m.s.Plan.Target, m.s.Heard.Session}
			if slices.Contains(w.net[1-i][:], any(ask)) || !m.s.Link {
				return false
			}
			w.send(1-i, ask)
			return true
		case ByFence:
			r.crash(w, 1-i, true)
		case ByLease:
			w.acquire(r, i)
			if w.lease.holder != i {
				failure = "no lease"
			}
		}
	}
	m.pop()
	if failure != "" {
		r.tell(w, i, StepFailed{job.Plan, job.Step, failure})
	} else {
		r.tell(w, i, StepDone{job.Plan, job.Step})
	}
	return true
}

func (w *world) acquire(r *rules, i int) {
	if w.lease.holder < 0 {
		w.lease.holder, w.lease.lost = i, false
		r.tell(w, i, LeaseGained{w.lease.epoch})
	}
}

// copyData makes the other node's data that of node i. What only the other one had
// must be in its salvage.
func (w *world) copyData(from int) {
	to := &w.n[1-from]
	if to.data&^(w.n[from].data|to.salvaged) != 0 {
		w.lost = true
	}
	to.data = w.n[from].data
}

// replicates reports whether data flows from node i.
func (w *world) replicates(i int) bool {
	m, peer := &w.n[i], &w.n[1-i]
	return w.linked() && m.s.Direction() == Sends && peer.s.Direction() == Takes && m.s.Epoch == peer.s.Epoch &&
		peer.s.Plan.IsZero()
}

// settle lets everything work until nothing changes any more: links, daemons, leases.
// It returns false if that doesn't come.
func (r *rules) settle(w *world) bool {
	w.cut = [2]bool{}
	for range 40 {
		before := *w
		for i := range w.n {
			if !w.n[i].up {
				r.start(w, i)
			}
		}
		for i := range w.n {
			if w.n[i].s.WantsLease() {
				w.acquire(r, i)
			}
			if w.lease.holder == i && !w.n[i].s.Lease {
				w.lease.holder = -1
			}
			for range 20 {
				if !r.work(w, i) {
					break
				}
			}
			for range 3 * slots {
				if w.net[i][0] == nil {
					break
				}
				r.receive(w, i, w.drop(i, 0))
			}
			h := w.n[i].s.Hello()
			w.n[i].s.Said = h.Seq
			w.send(1-i, h)
		}
		renumber(w)
		renumber(&before)
		if *w == before {
			return true
		}
	}
	return false
}

// renumber replaces the numbers of hellos by their ranks: only their order matters,
// and a world that differs in nothing else is the same.
func renumber(w *world) {
	for i := range w.n {
		s := w.n[i].s
		for k := slots - 1; k >= 0; k-- { // what would change nothing need not be in flight
			h, ok := w.net[i][k].(Hello)
			if ok && w.n[i].up && h.Session == s.Heard.Session && h.Seq <= s.Heard.Seq && h.For == s.Session && h.Epoch.Number <= s.Epoch.Number {
				w.drop(i, k)
			}
		}
	}
	for i := range w.n {
		m, peer := &w.n[i], &w.n[1-i]
		numbers := []uint64{m.s.Said}
		inFlight := w.net[1-i][:]
		for _, message := range inFlight {
			if h, ok := message.(Hello); ok && h.Session == m.s.Session {
				numbers = append(numbers, h.Seq)
			}
		}
		known := peer.s.Heard.Session == m.s.Session && m.s.Session != ""
		if known {
			numbers = append(numbers, peer.s.Heard.Seq)
		}
		slices.Sort(numbers)
		numbers = slices.Compact(numbers)
		rank := func(n uint64) uint64 {
			k, _ := slices.BinarySearch(numbers, n)
			return uint64(k) + 1
		}
		m.s.Said = rank(m.s.Said)
		if known {
			peer.s.Heard.Seq = rank(peer.s.Heard.Seq)
		}
		for k, message := range inFlight {
			if h, ok := message.(Hello); ok && h.Session == m.s.Session {
				h.Seq = rank(h.Seq)
				inFlight[k] = h
			}
		}
	}
}

// wrong says which promise a world breaks, "" if none.
func (w *world) wrong() string {
	a, b := &w.n[0], &w.n[1]
	switch {
	case w.lost:
		return "data was replaced that nobody has any more"
	case w.lied > 0:
	case a.services && b.services:
		return "both nodes' services run"
	case a.up && b.up && a.s.Serves() && b.s.Serves():
		return "both nodes say that they serve"
	}
	return ""
}

func (w *world) String() string {
	text := ""
	for i := range w.n {
		m := &w.n[i]
		text += fmt.Sprintf("  %s up=%v services=%v data=%b salvaged=%b %s epoch %v learned %v link %v jobs %v\n",
			m.s.Self, m.up, m.services, m.data, m.salvaged, m.s.describe(), m.s.Epoch, m.s.Learned.Number, m.s.Link, m.jobs)
	}
	return text + fmt.Sprintf("  cut=%v lease=%v net=%+v\n", w.cut, w.lease, w.net)
}
