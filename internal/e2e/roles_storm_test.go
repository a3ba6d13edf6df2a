package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"repld/control"
)

// TestRolesStorm changes roles at random while daemons and machines end and come back,
// and the network is divided, and wants after each round: one node serves and the other
// stands by, their trees are equal, never have both services worked at once, and nothing
// that was acknowledged is lost but what lies behind a barrier that a ledger names, and is in
// a salvage. With REPLD_SOAK=30m it is make soak-roles' half hour.
func TestRolesStorm(t *testing.T) {
	t.Parallel()
	newRoleStorm(t, false).blow(2)
}

// roleStorm is a run of the test.
type roleStorm struct {
	*stations
	rng    *rand.Rand
	fence  bool // there are fence hooks, which are true ones
	etcd   *witness
	begun  time.Time
	length time.Duration
	last   *station // that served at the end of the last round

	pending []act           // of this round, in the order of time
	told    sync.WaitGroup  // commands that are under way
	results chan string     // what came of them
	claimed map[int]bool    // machines that must stay off until the commands have ended
	ledgers map[string]bool // that earlier rounds have seen
	lost    map[int]serviceOp
	ops     map[int]bool // that are known to be there
	by      []string     // what an operator had to say in this round

	rounds   int
	lostEver int
	happened map[string]int
	longest  time.Duration // that a round took to be well again
}

// act is something that happens at a time of a round.
type act struct {
	at   time.Duration
	what string
	do   func()
}

func newRoleStorm(t *testing.T, coordinated bool) *roleStorm {
	t.Helper()
	k := &roleStorm{stations: prepareStations(t, 200*time.Millisecond), begun: time.Now(), length: lasting(t, time.Second),
		ledgers: map[string]bool{}, lost: map[int]serviceOp{}, ops: map[int]bool{}, happened: map[string]int{}, claimed: map[int]bool{}}
	k.rng = rand.New(rand.NewPCG(k.seed, 11))
	k.fence = !coordinated && k.rng.IntN(2) == 0
	for i, s := range k.both() {
		s.faulty()
		if k.fence {
			k.fences(s, k.both()[1-i])
		}
	}
	if coordinated {
		k.etcd = newWitness(t, k.net)
		for i, s := range k.both() {
			k.etcd.coordinate(i, s)
		}
	}
	k.join(networkAddr[1] + ":7440")
	for _, s := range k.both() {
		s.started()
	}
	t.Logf("fence hooks: %t, coordination: %t", k.fence, coordinated)
	return k
}

func (p *stations) both() []*station { return []*station{p.a, p.b} }

// fences gives a node a hook that switches the other machine off.
func (k *roleStorm) fences(s, other *station) {
	k.t.Helper()
	conf, err := os.ReadFile(s.node.conf)
	if err != nil {
		k.t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		k.t.Fatal(err)
	}
	write(k.t, s.node.conf, string(conf)+fmt.Sprintf("  fence: [{exec: [%s, %s, fence, %s, %q, none]}]\n", program, serviceWord, other.dir, fmt.Sprint(os.Getpid())))
}

// blow goes on for the test's time, and for some rounds at least.
func (k *roleStorm) blow(least int) {
	k.t.Helper()
	for k.rounds < least || time.Since(k.begun) < k.length {
		k.round()
	}
	k.t.Logf("%d rounds in %v; %d operations were acknowledged and %d of them lost, all behind a barrier that a ledger names and kept in a salvage; never two writers; at most %.1f s until all was well again",
		k.rounds, time.Since(k.begun).Round(time.Second), len(k.ops)+len(k.w.acknowledged()), k.lostEver, k.longest.Seconds())
	for _, what := range slices.Sorted(maps.Keys(k.happened)) {
		k.t.Logf("%5d  %s", k.happened[what], what)
	}
}

// round has things happen, and then wants all to be well again.
func (k *roleStorm) round() {
	k.t.Helper()
	k.rounds++
	var told []string
	defer func() {
		if k.t.Failed() {
			k.t.Logf("round %d: %s", k.rounds, strings.Join(told, "; "))
			k.tell()
		}
	}()
	k.pending, k.results = nil, make(chan string, 16)
	k.draw()
	slices.SortStableFunc(k.pending, func(x, y act) int { return int(x.at - y.at) })
	began := time.Now()
	for len(k.pending) > 0 {
		next := k.pending[0]
		k.pending = k.pending[1:]
		<-time.After(time.Until(began.Add(next.at)))
		if next.what != "" {
			told = append(told, fmt.Sprintf("%.2f s: %s", time.Since(began).Seconds(), next.what))
		}
		next.do()
	}
	quiet := time.Now()
	results := k.calm()
	told = append(told, results...)
	k.by = nil
	serving, stands := k.settle()
	told = append(told, k.by...)
	k.check(serving, stands)
	well := time.Since(quiet)
	k.longest = max(k.longest, well)
	k.t.Logf("%s %4d  %s; %s serves, well after %.1f s", time.Since(k.begun).Round(time.Second), k.rounds, strings.Join(told, "; "), serving.name, well.Seconds())
}

// tell says what the nodes have to say.
func (k *roleStorm) tell() {
	for _, s := range k.both() {
		if s.runs() {
			k.t.Logf("%s: %s%s", s.name, s.node.ctl("status").stdout, s.node.ctl("events").stdout)
		}
	}
	for _, w := range writings(k.both()...) {
		k.t.Logf("the service of %s (process %d) did %d operations from %v to %v", w.node, w.run, w.done, w.first, w.last)
	}
}

// does has something happen at a time of this round.
func (k *roleStorm) does(at time.Duration, do func(), format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	k.pending = append(k.pending, act{at, what, func() {
		k.count(what)
		do()
	}})
}

// quietly is does for the end of something.
func (k *roleStorm) quietly(at time.Duration, do func()) {
	k.pending = append(k.pending, act{at: at, do: do})
}

// count counts what happens, whichever node it happens to.
func (k *roleStorm) count(what string) {
	k.happened[strings.NewReplacer(" of a", "", " of b", "", " on a", "", " on b", "").Replace(what)]++
}

// between draws a time.
func (k *roleStorm) between(least, most time.Duration) time.Duration {
	return least + time.Duration(k.rng.Int64N(int64(most-least)+1))
}

// command has an operator give a command, and doesn't wait for it. Once gone, which may be
// nil, says so.
func (k *roleStorm) command(s *station, gone func() bool, args ...string) {
	ctl := append([]string{filepath.Join(bin, "replctl"), "--socket", s.node.state + ".sock"}, args...)
	results := k.results
	k.told.Go(func() {
		what := strings.Join(args, " ") + " on " + s.name
		for end := time.Now().Add(30 * time.Second); gone != nil && !gone(); <-time.After(50 * time.Millisecond) {
			if time.Now().After(end) {
				results <- what + ": not given"
				return
			}
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(k.t.Context()), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, ctl[0], ctl[1:]...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		_ = cmd.Run()
		if ctx.Err() != nil {
			k.t.Errorf("%s has not ended after %v", what, patience)
		}
		results <- outcome(what, cmd.ProcessState.ExitCode(), stderr.String())
	})
}

// outcome is how a command ended, in a line.
func outcome(what string, code int, stderr string) string {
	what = fmt.Sprintf("%s: exit %d", what, code)
	if _, why, failed := strings.Cut(stderr, "replctl: "); failed {
		why, _, _ = strings.Cut(why, "\n")
		what += " · " + why
	}
	return what
}

// calm takes away all that was done to machines and network, and returns what came of the
// commands.
func (k *roleStorm) calm() (results []string) {
	k.t.Helper()
	for i, s := range k.both() {
		s.disarm()
		s.signal(syscall.SIGCONT)
		if !k.claimed[i] {
			s.on()
		}
	}
	for _, how := range severances {
		k.net.mended(how)
	}
	if k.etcd != nil {
		k.etcd.calm()
	}
	k.told.Wait()
	clear(k.claimed)
	for _, s := range k.both() {
		s.on()
	}
	close(k.results)
	for r := range k.results {
		results = append(results, r)
		ended, _, _ := strings.Cut(r, " ·")
		k.count(ended)
	}
	return results
}

// operatorWaits is how long an operator looks on before doing something, again and again.
const operatorWaits = 3 * time.Second

// settle brings the pair to one that serves and one that stands by, by what an operator
// would do.
func (k *roleStorm) settle() (serving, stands *station) {
	k.t.Helper()
	asked, coin := time.Now(), k.rng.IntN(2)
	newest := k.newest()
	poll(k.t, fmt.Sprintf("round %d: one serves and one stands by", k.rounds), func() error {
		var down *station
		serving, stands = nil, nil
		var all []string
		for _, s := range k.both() {
			s.on() // a fence hook that was late may have switched it off
			status, err := s.node.status()
			if err != nil {
				return err
			}
			all = append(all, fmt.Sprintf("%s is %s in epoch %d, link %s", s.name, status.Status, status.Epoch, status.Peer.Link))
			switch {
			case status.Peer.Link != control.LinkUp:
				return fmt.Errorf("%v", all)
			case status.Role == control.RoleProduction:
				serving = s
			case status.Role == control.RoleStandby:
				stands = s
			default:
				down = s
			}
		}
		verb, on := "rejoin", down
		switch {
		case serving != nil && stands != nil:
			runs, err := serviceRuns(serving.dir)
			if err == nil && !runs {
				err = errors.New("it doesn't run")
			}
			if err != nil {
				return fmt.Errorf("%v: the service of %s: %w", all, serving.name, err)
			}
			return nil
		case serving == nil && down == nil: // each waits for the other one
			verb, on = "failover", newest
		case serving == nil && stands != nil:
			verb, on = "failover", []*station{stands, down}[coin]
			if newest == stands {
				on = stands
			}
			coin = 1 - coin // it may be refused on one of them
		case serving == nil:
			verb, on = "failover", newest
		case down == nil:
			return fmt.Errorf("%v", all)
		}
		if time.Since(asked) > operatorWaits { // what goes on by itself may end first
			r := on.node.ctl(verb, "--yes")
			asked = time.Now()
			k.by = append(k.by, outcome(verb+" by an operator on "+on.name, r.code, r.stderr))
		}
		return fmt.Errorf("%v", all)
	})
	return serving, stands
}
