package role

import "testing"

// broken are rules with one thing wrong each. The checker must find what comes of it:
// a checker that finds nothing in any of them proves nothing about the real ones.
var broken = []struct {
	name   string
	policy Policy
	b      budget
	damage func(r *rules)
	// A history that shows what is wrong; see [search.walk].
	seed    uint64
	history int
}{
	{"a node that returns doesn't ask", Policy{}, budget{crashes: 1, orders: 1}, func(r *rules) {
		r.next = func(s State, e Event) (State, []Effect, error) {
			if e, ok := e.(Start); ok {
				e.Policy.StartAlone = true
				return Next(s, e)
			}
			return Next(s, e)
		}
	}, 9314469734194169540, 41},
	{"a grant is forgotten in a crash", Policy{}, budget{crashes: 1, orders: 1, cuts: 1}, func(r *rules) {
		r.restart = func(s Stored) Stored {
			if s.Cause == Granted {
				s.Role, s.Cause, s.Grant, s.Plan = Production, NoCause, Grant{}, Progress{}
			}
			return s
		}
	}, 846435619079190647, 5555},
	{"an answer to an earlier run counts", Policy{}, budget{crashes: 1, orders: 1, cuts: 1}, func(r *rules) {
		r.next = func(s State, e Event) (State, []Effect, error) {
			if h, ok := e.(Hello); ok {
				h.For = s.Session
				return Next(s, h)
			}
			return Next(s, e)
		}
	}, 4146962450902601859, 586},
	{"a grant for an earlier run counts", Policy{}, budget{crashes: 1, orders: 2}, func(r *rules) {
		r.next = func(s State, e Event) (State, []Effect, error) {
			if g, ok := e.(GrantCame); ok {
				g.For = s.Session
				return Next(s, g)
			}
			return Next(s, e)
		}
	}, 4203964856145218811, 642},
	{"a step-down is answered before the services stop", Policy{}, budget{orders: 2, cuts: 1, crashes: 1}, func(r *rules) {
		r.next = func(s State, e Event) (State, []Effect, error) {
			if q, ok := e.(StepDownAsked); ok {
				return s, []Effect{AnswerStepDown{Plan: q.Plan}}, nil
			}
			return Next(s, e)
		}
	}, 7275626096322583241, 24},
	{"a step-down promises nothing", Policy{}, budget{orders: 2}, func(r *rules) {
		r.next = func(s State, e Event) (State, []Effect, error) {
			n, effects, err := Next(s, e)
			n.Promised = 0
			return n, effects, err
		}
	}, 8429004581125341140, 213},
	{"a higher epoch stops nobody", Policy{}, budget{orders: 1, lies: 1, cuts: 1}, func(r *rules) {
		r.next = func(s State, e Event) (State, []Effect, error) {
			if h, ok := e.(Hello); ok && s.Stored.Role == Production && h.Epoch.Number > s.Epoch.Number {
				return s, nil, nil
			}
			return Next(s, e)
		}
	}, 14752718777697853188, 15},
	{"a failover keeps the epoch", Policy{}, budget{orders: 1, crashes: 1}, func(r *rules) {
		r.next = func(s State, e Event) (State, []Effect, error) {
			n, effects, err := Next(s, e)
			if s.Stored.Role == Standby && n.Stored.Role == Production {
				n.Epoch = s.Epoch
			}
			return n, effects, err
		}
	}, 16211179069323536013, 5009},
	{"a fence that failed counts", Policy{HasFence: true}, budget{orders: 1, failures: 1, cuts: 2}, func(r *rules) { r.fenced = true }, 17613945598572464104, 614},
	{"a fence of earlier counts after a restart", Policy{HasFence: true}, budget{orders: 2, crashes: 1, cuts: 1}, func(r *rules) { r.unfenced = true }, 12718068333134002034, 200},
	{"a lost lease stops nobody", Policy{Coordinated: true}, budget{orders: 1, losses: 1, cuts: 1}, func(r *rules) {
		r.next = func(s State, e Event) (State, []Effect, error) {
			if _, ok := e.(LeaseLost); ok {
				s.Policy.Coordinated = false
				return s, nil, nil
			}
			return Next(s, e)
		}
	}, 13537919944682145022, 425},
	{"a plan that is given up takes a stuck promotion with it", Policy{}, budget{orders: 2, failures: 2}, func(r *rules) {
		r.next = func(s State, e Event) (State, []Effect, error) {
			n, effects, err := Next(s, e)
			n.Before = Progress{}
			return n, effects, err
		}
	}, 7, 18325},
	{"what an old primary has is not salvaged", Policy{}, budget{orders: 2, crashes: 1, writes: 1}, func(r *rules) {
		r.next = func(s State, e Event) (State, []Effect, error) {
			n, effects, err := Next(s, e)
			if n.Plan.Step == StepSalvage {
				n.Plan.Step = StepAdopt
				effects = []Effect{n.do()}
			}
			return n, effects, err
		}
	}, 13825777785855326418, 526},
}

func TestCheckerFindsBrokenRules(t *testing.T) {
	for _, m := range broken {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			r := &rules{policy: [2]Policy{m.policy, m.policy}, next: Next}
			m.damage(r)
			c := &search{r: r, b: m.b, sample: 64}
			// A history that is known to show it comes first. When rules have changed it may
			// show nothing any more; then another one is looked for, to be written down here.
			if _, bad, _ := c.walk(m.seed, m.history, 1, 120); bad != nil {
				return
			}
			seed := seedOf(t)
			tried, bad, why := c.walk(seed, 0, 30000, 120)
			if bad == nil {
				t.Fatalf("found nothing wrong in %d histories", tried)
			}
			t.Logf("found %q, %d, %d: %.200s\n  %.5000s", m.name, seed, tried, why, bad)
		})
	}
}
