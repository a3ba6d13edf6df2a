package e2e

import (
	"errors"
	"strings"
	"syscall"
	"time"

	"repld/control"
	"repld/role"
)

// draw fills a round: something that an operator does, and what disturbs it.
func (k *roleStorm) draw() {
	k.t.Helper()
	seat := 0
	if k.newest() == k.b {
		seat = 1
	}
	scenes := []func(seat int){k.cutover, k.cutover, k.cutover, k.failover, k.failover, k.stepDown, k.restart, k.nothing, k.divided}
	if k.fence {
		scenes = append(scenes, k.fencing, k.fencing)
	}
	if k.etcd != nil {
		scenes = append(scenes, k.etcdScenes()...)
	}
	scenes[k.rng.IntN(len(scenes))](seat)
}

// cutover hands production over, by one of the words for it, while up to two things
// disturb it.
func (k *roleStorm) cutover(seat int) {
	serving, stands := k.both()[seat], k.both()[1-seat]
	back := "cutover"
	if seat == 1 {
		back = "failback"
	}
	words := []struct {
		on   *station
		args string
	}{
		{serving, "cutover --yes"}, {stands, "cutover --yes"}, {stands, back + " --yes"},
		{serving, "switch-to standby --mode normal --yes"}, {stands, "switch-to production --mode normal --yes"},
	}
	w := words[k.rng.IntN(len(words))]
	kinds := []struct {
		kind role.Kind
		on   int
	}{{role.Cutover, seat}, {role.TakeOver, 1 - seat}}
	if k.rng.IntN(2) == 0 { // at a step of its plan
		of := kinds[k.rng.IntN(2)]
		k.atStep(0, of.on, of.kind)
	}
	k.does(0, func() { k.command(w.on, nil, strings.Fields(w.args)...) }, "%s on %s", w.args, w.on.name)
	k.disturb(k.rng.IntN(3), 0, 2*time.Second)
}

// atStep arms a fault point of a plan on a node.
func (k *roleStorm) atStep(at time.Duration, seat int, kind role.Kind) {
	steps := role.PlanOf(kind).Steps
	step := steps[k.rng.IntN(len(steps))]
	point := kind.Fault(step.Name, k.rng.IntN(2) == 0)
	s := k.both()[seat]
	if k.rng.IntN(2) == 0 {
		k.does(at, func() { s.arm("kill", point) }, "kill of %s at %s", s.name, point)
		k.reaped(seat, k.between(0, 3*time.Second))
		return
	}
	how := severances[k.rng.IntN(len(severances))]
	k.does(at, func() { s.arm("hold", point) }, "division %s at %s of %s", how, point, s.name)
	// Both see that the link is down while the step has not begun, or not ended.
	k.quietly(at+k.between(time.Second, 2*time.Second), func() {
		if !s.held() {
			return
		}
		k.net.divided(how)
		for _, s := range k.both() {
			poll(k.t, "the link of "+s.name+" is down", func() error {
				if s.runs() && !k.unlinked(s)() {
					return errors.New("it is up")
				}
				return nil
			})
		}
		s.disarm()
	})
	k.quietly(at+k.between(3*time.Second, 6*time.Second), func() { k.net.mended(how) })
}

// reaped starts a daemon again that has ended.
func (k *roleStorm) reaped(seat int, after time.Duration) {
	s := k.both()[seat]
	k.quietly(after, func() {
		if !s.runs() && !k.claimed[seat] {
			s.on()
		}
	})
}

// failover ends the machine that serves, and has an operator, who knows it, take over.
func (k *roleStorm) failover(seat int) {
	serving, stands := k.both()[seat], k.both()[1-seat]
	verb := []string{"failover", "--yes"}
	switch {
	case k.fence && k.rng.IntN(2) == 0:
	case k.etcd != nil && k.rng.IntN(2) == 0:
	default:
		verb = append(verb, "--peer-is-down")
		k.claimed[seat] = true
	}
	if k.rng.IntN(2) == 0 {
		k.atStepAlone(1-seat, role.Failover)
	}
	k.does(0, serving.off, "power off of %s", serving.name)
	k.does(0, func() { k.command(stands, k.unlinked(stands), verb...) }, "%s on %s", strings.Join(verb, " "), stands.name)
	if k.rng.IntN(2) == 0 {
		at := k.between(0, 7*time.Second)
		k.does(at, func() { stands.node.kill() }, "kill of %s", stands.name)
		k.reaped(1-seat, at+k.between(0, time.Second))
	}
}

// unlinked tells when a node has seen the end of its link.
func (k *roleStorm) unlinked(s *station) func() bool {
	return func() bool {
		status, err := s.node.status()
		return err == nil && status.Peer != nil && status.Peer.Link != control.LinkUp
	}
}

// atStepAlone ends a node at a step of a plan that needs no peer.
func (k *roleStorm) atStepAlone(seat int, kind role.Kind) {
	steps := role.PlanOf(kind).Steps
	point := kind.Fault(steps[k.rng.IntN(len(steps))].Name, k.rng.IntN(2) == 0)
	s := k.both()[seat]
	k.does(0, func() { s.arm("kill", point) }, "kill of %s at %s", s.name, point)
	for at := time.Second; at < 8*time.Second; at += time.Second {
		k.reaped(seat, at)
	}
}

// fencing has the standby take over from a machine that works, and can't be reached: it
// is switched off by its hook.
func (k *roleStorm) fencing(seat int) {
	stands := k.both()[1-seat]
	how := severances[k.rng.IntN(len(severances))]
	k.does(0, func() { k.net.divided(how) }, "division %s", how)
	k.does(0, func() { k.command(stands, k.unlinked(stands), "failover", "--yes") }, "failover by fence on %s", stands.name)
	if k.rng.IntN(2) == 0 {
		k.atStepAlone(1-seat, role.Failover)
	}
	k.does(k.between(5*time.Second, 8*time.Second), k.both()[seat].on, "power on of %s", k.both()[seat].name)
	k.disturb(k.rng.IntN(2), 4*time.Second, 8*time.Second)
}

// stepDown has the node that serves stop, and maybe the other one take over.
func (k *roleStorm) stepDown(seat int) {
	serving, stands := k.both()[seat], k.both()[1-seat]
	if k.rng.IntN(2) == 0 {
		k.atStep(0, seat, role.StepDown)
	}
	k.does(0, func() { k.command(serving, nil, "switch-to", "standby", "--mode", "emergency", "--yes") }, "step-down on %s", serving.name)
	k.does(k.between(0, 3*time.Second), func() { k.command(stands, nil, "failover", "--yes") }, "failover on %s", stands.name)
	k.disturb(k.rng.IntN(2), 0, 2*time.Second)
}

// restart ends both daemons, or machines, and starts them.
func (k *roleStorm) restart(int) {
	for i, s := range k.both() {
		end, word := s.node.kill, "kill"
		if k.rng.IntN(2) == 0 {
			end, word = s.off, "power off"
		}
		k.does(0, end, "%s of %s", word, s.name)
		k.reaped(i, k.between(0, 2*time.Second))
	}
	k.disturb(k.rng.IntN(2), 0, 3*time.Second)
}

func (k *roleStorm) nothing(int) { k.disturb(1+k.rng.IntN(3), 0, 4*time.Second) }

// divided divides the network for longer than it takes to notice, and the machine that
// serves may be switched off and on meanwhile.
func (k *roleStorm) divided(seat int) {
	how := severances[k.rng.IntN(len(severances))]
	k.does(0, func() { k.net.divided(how) }, "division %s", how)
	if k.rng.IntN(2) == 0 {
		s := k.both()[k.rng.IntN(2)]
		k.does(k.between(0, 6*time.Second), s.off, "power off of %s", s.name)
	}
	k.quietly(k.between(6*time.Second, 8*time.Second), func() { k.net.mended(how) })
	k.disturb(k.rng.IntN(2), 0, 8*time.Second)
}

// disturb draws disturbances within a time.
func (k *roleStorm) disturb(many int, from, to time.Duration) {
	for range many {
		at := k.between(from, to)
		seat := k.rng.IntN(2)
		s := k.both()[seat]
		how := severances[k.rng.IntN(len(severances))]
		switch k.rng.IntN(7) {
		case 0:
			k.does(at, s.node.kill, "kill of %s", s.name)
			k.reaped(seat, at+k.between(0, time.Second))
		case 1:
			k.does(at, s.off, "power off of %s", s.name)
			k.reaped(seat, at+k.between(0, 3*time.Second))
		case 2:
			k.does(at, func() { k.net.divided(how) }, "division %s", how)
			k.quietly(at+k.between(0, 7*time.Second), func() { k.net.mended(how) })
		case 3:
			for range 3 {
				k.does(at, func() { k.net.divided(how) }, "flap %s", how)
				at += k.between(50*time.Millisecond, 700*time.Millisecond)
				k.quietly(at, func() { k.net.mended(how) })
				at += k.between(50*time.Millisecond, 700*time.Millisecond)
			}
		case 4:
			k.does(at, func() { s.signal(syscall.SIGSTOP) }, "stop of %s", s.name)
			k.quietly(at+k.between(0, 900*time.Millisecond), func() { s.signal(syscall.SIGCONT) })
		case 5:
			k.does(at, func() { s.signal(syscall.SIGTERM) }, "end of %s", s.name) // it says goodbye
			k.reaped(seat, at+k.between(500*time.Millisecond, 2*time.Second))
		case 6:
			k.does(at, func() {
				k.command(s, nil, []string{"cutover", "failback", "failover", "rejoin"}[k.rounds%4], "--yes")
			}, "a command at the wrong time on %s", s.name)
		}
	}
}
