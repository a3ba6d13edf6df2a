package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"repld/control"
	"repld/health"
	"repld/internal/testfs"
	"repld/wire/wiretest"
)

// TestSoak has two groups of one pair under one fault after the other, drawn from a
// printed seed, while editors work in every tree. After each fault the cause goes,
// and both groups must be current and equal, without anybody's help but where the
// documentation asks for an operator. With REPLD_SOAK=30m it is make soak's half hour.
func TestSoak(t *testing.T) {
	t.Parallel()
	testfs.NeedRoot(t)
	testfs.NeedProgram(t, "rsync", "rsync")
	k := newSoak(t)
	for begun, n := time.Now(), 0; n < len(soakFaults) && n < k.least || time.Since(begun) < k.length; n++ {
		k.round(k.next())
	}
	k.finish()
}

// soakFault is something that happens to a pair. It returns when it has, and the
// function that takes the cause away, which may be nil.
type soakFault struct {
	name string
	do   func(*soak) (end func())
}

var soakFaults = []soakFault{
	{"primary killed", func(k *soak) func() { return k.killed(k.primary) }},
	{"standby killed", func(k *soak) func() { return k.killed(k.standby) }},
	{"both killed", func(k *soak) func() { return k.killed(k.standby, k.primary) }},
	{"primary stopped", func(k *soak) func() { return k.stopped(k.primary) }},
	{"standby stopped", func(k *soak) func() { return k.stopped(k.standby) }},
	{"link cut", (*soak).linkCut},
	{"link slow", (*soak).linkSlow},
	{"group paused", (*soak).paused},
	{"standby's tree full", func(k *soak) func() { return k.full(filepath.Join(k.to, "a"), k.standby) }},
	{"standby's state full", func(k *soak) func() { return k.full(k.standby.state, k.standby) }},
	{"primary's state full", func(k *soak) func() { return k.full(k.primary.state, k.primary) }},
	{"standby's tree read-only", (*soak).readOnly},
	{"standby's inodes used up", (*soak).noInodes},
	{"state damaged", (*soak).damaged},
	{"group's state lost", (*soak).stateLost},
	{"standby's state lost", (*soak).allLost},
	{"tree replaced", (*soak).replaced},
	{"flood of strangers", (*soak).flooded},
}

// soak is a run of the test.
type soak struct {
	*services
	seed   uint64
	rng    *rand.Rand
	length time.Duration
	least  int // rounds
	order  []int
	begun  time.Time

	rounds     int
	operations int64
	happened   map[string]int
	seen       map[string]int // conditions
	accepted   int
}

func newSoak(t *testing.T) *soak {
	seed := seeded(t)
	k := &soak{services: newServices(t), seed: seed, rng: rand.New(rand.NewPCG(seed, 9)), begun: time.Now(),
		length: lasting(t, time.Second), least: 2, happened: map[string]int{}, seen: map[string]int{}}
	for _, at := range []string{k.to + "/a", k.dir + "/standby", k.dir + "/primary"} {
		mounted(t, at, 768<<20)
	}
	mkdirs(t, k.to+"/a/t")
	// Each longer fault is to fill the journals.
	k.start(seed, "guard: {changed: 100%}", "history: {keep: 5m, limit: 64MiB}", "journal: {limit: 24MiB}")
	return k
}

// next draws a fault: each comes once before any comes again.
func (k *soak) next() soakFault {
	if len(k.order) == 0 {
		k.order = k.rng.Perm(len(soakFaults))
	}
	f := soakFaults[k.order[0]]
	k.order = k.order[1:]
	return f
}

// round has one fault happen under load, and then wants everything to be well.
func (k *soak) round(f soakFault) {
	k.t.Helper()
	k.rounds++
	defer func() {
		if k.t.Failed() {
			k.t.Logf("round %d: %s", k.rounds, f.name)
		}
	}()
	began := time.Now()
	stop := k.load()
	defer stop()
	k.wait(300, 1500)
	end := f.do(k)
	k.note()
	k.wait(0, 1000)
	if end != nil {
		end()
	}
	done := stop()
	k.operations += done
	k.calm()
	k.emptySalvage()
	k.applied()
	k.equalTrees()
	k.cleared()
	k.happened[f.name]++
	k.t.Logf("%s %4d  %-26s %5d operations, equal after %.1f s", time.Since(k.begun).Round(time.Second), k.rounds, f.name, done, time.Since(began).Seconds())
}

// load has an editor at work in every tree.
func (k *soak) load() (stop func() int64) {
	var stops []func() int64
	for i, name := range []string{"a", "b", "c"} {
		from, _ := k.sides(name)
		k.trim(from)
		stops = append(stops, load(k.t, from, k.seed+uint64(k.rounds*64+i*8), 1, 8*time.Millisecond))
	}
	return func() (sum int64) {
		for _, stop := range stops {
			sum += stop()
		}
		return sum
	}
}

// trim keeps a tree small enough for the file systems of the test.
func (k *soak) trim(dir string) {
	k.t.Helper()
	var size int64
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if info, ierr := os.Lstat(path); err == nil && ierr == nil {
			size += info.Size()
		}
		return nil
	})
	entries, err := os.ReadDir(dir)
	if err != nil {
		k.t.Fatal(err)
	}
	if size < 128<<20 {
		return
	}
	for _, e := range entries {
		if k.rng.IntN(2) == 0 {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				k.t.Fatal(err)
			}
		}
	}
}

func (k *soak) wait(least, most int) {
	<-time.After(time.Duration(least+k.rng.IntN(most-least+1)) * time.Millisecond)
}

// note counts the conditions that either node shows.
func (k *soak) note() {
	for _, n := range []*node{k.primary, k.standby} {
		if s, err := n.status(); err == nil {
			for _, c := range s.Health {
				k.seen[string(c.Code)]++
			}
		}
	}
}

// calm waits until both daemons answer and are linked, and agrees where an operator
// must: a base that would set much aside, and a tree that an editor has emptied.
func (k *soak) calm() {
	k.t.Helper()
	k.primary.up()
	k.standby.up()
	k.linked()
	for _, name := range groupNames {
		poll(k.t, "group "+name+" works", func() error {
			k.primary.alive()
			k.standby.alive()
			g, err := k.standby.group(name)
			if err != nil {
				return err
			}
			if g.Phase == control.PhaseHalted && k.has(k.standby, "seed-halted", name) {
				k.accepted++
				k.standby.ctl("--group", name, "resume", "--accept")
				return fmt.Errorf("it waited for an operator")
			}
			if r := k.primary.ctl("--group", name, "barrier", "--wait", "applied", "--timeout", "2s"); r.code != 0 {
				if emptied(r) { // by an editor
					k.accepted++
					k.primary.ctl("--group", name, "resume", "--accept")
				}
				return fmt.Errorf("%s", r.stderr)
			}
			return nil
		})
	}
}

func (k *soak) has(n *node, code, group string) bool {
	s, err := n.status()
	return err == nil && slices.ContainsFunc(s.Health, func(c health.Condition) bool {
		return string(c.Code) == code && (c.Group == group || c.Group == "")
	})
}

// applied waits until the standby has applied everything done so far in every group.
func (k *soak) applied() {
	k.t.Helper()
	for _, name := range groupNames {
		k.primary.must("--group", name, "barrier", "--wait", "applied", "--timeout", patience.String())
	}
}

// cleared removes what was set aside, as an operator does, and waits until nothing
// is wrong any more. What nobody can do anything about here may stay.
func (k *soak) cleared() {
	k.t.Helper()
	for _, n := range []*node{k.primary, k.standby} {
		kept, err := filepath.Glob(filepath.Join(n.state, "groups", "*", "*.damaged"))
		if err != nil {
			k.t.Fatal(err)
		}
		for _, path := range kept {
			if err := os.RemoveAll(path); err != nil {
				k.t.Fatal(err)
			}
		}
		poll(k.t, "all is well on the "+n.role, func() error {
			n.alive()
			s, err := n.status()
			if err != nil {
				return err
			}
			var left errorList
			for _, c := range s.Health {
				if !slices.Contains([]string{"missed-changes", "foreign-write", "watch-overflow"}, string(c.Code)) {
					left = append(left, string(c.Code)+" "+c.Group+": "+c.Text)
				}
			}
			if len(left) > 0 {
				return left
			}
			return nil
		})
	}
}

// emptySalvage removes what the standby has set aside, as an operator does: here it
// would fill the disk, and a name of a file that has others would count as one of its
// links.
func (k *soak) emptySalvage() {
	k.t.Helper()
	for _, trees := range k.groups {
		for _, tree := range trees {
			_, to := k.sides(tree)
			emptySalvage(k.t, to)
		}
	}
}

func (k *soak) finish() {
	k.t.Helper()
	for _, name := range groupNames {
		if r := k.primary.ctl("--group", name, "verify"); r.code != 0 {
			k.t.Fatalf("verify of group %s: exit %d\n%s%s", name, r.code, r.stdout, r.stderr)
		}
	}
	k.t.Logf("%d rounds in %s, %d operations, both groups equal after each; an operator had to agree %d times",
		k.rounds, time.Since(k.begun).Round(time.Second), k.operations, k.accepted)
	k.t.Logf("faults %v", k.happened)
	k.t.Logf("conditions seen %v", k.seen)
}

func (k *soak) killed(nodes ...*node) func() {
	for _, n := range nodes {
		n.kill()
	}
	k.wait(0, 500)
	return func() {
		for _, n := range nodes {
			n.start()
		}
	}
}

// stopped is longer than the link's idle time-out.
func (k *soak) stopped(n *node) func() {
	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		k.t.Fatal(err)
	}
	k.wait(6000, 8000)
	return func() {
		if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			k.t.Fatal(err)
		}
	}
}

func (k *soak) linkCut() func() {
	k.relay.Cut()
	k.primary.unwell("link-down", "")
	k.wait(0, 5000)
	return k.relay.Mend
}

func (k *soak) linkSlow() func() {
	k.relay.Set(wiretest.RelayOptions{Delay: 50 * time.Millisecond, Loss: 0.01, Bandwidth: 1_000_000 / 8})
	k.wait(5000, 10000)
	return func() { k.relay.Set(wiretest.RelayOptions{}) }
}

func (k *soak) paused() func() {
	name := groupNames[k.rng.IntN(len(groupNames))]
	k.standby.must("--group", name, "pause")
	k.wait(3000, 8000)
	return func() { k.standby.must("--group", name, "resume") }
}

// full fills a file system; some of what the editors do still fits.
func (k *soak) full(dir string, n *node) func() {
	fill := ballast(k.t, dir, 1<<20)
	n.unwell("disk-low", "")
	k.wait(2000, 5000)
	return func() {
		if err := os.Remove(fill); err != nil {
			k.t.Fatal(err)
		}
	}
}

// noInodes uses up the inodes of the file system with a tree of the standby.
func (k *soak) noInodes() func() {
	used := filepath.Join(k.to, "a", "used")
	mkdirs(k.t, used)
	first := filepath.Join(used, "0")
	write(k.t, first, "")
	var err error
	for n := 1; err == nil; n++ {
		var f *os.File
		if f, err = os.Create(filepath.Join(used, fmt.Sprint(n))); err == nil {
			err = f.Close()
		}
	}
	k.wait(3000, 5000)
	return func() {
		if err := os.RemoveAll(used); err != nil {
			k.t.Fatal(err)
		}
	}
}

// readOnly makes the file system with a tree of the standby read-only, as one does
// that has found an error.
func (k *soak) readOnly() func() {
	at := filepath.Join(k.to, "a")
	poll(k.t, at+" is read-only", func() error { // busy while a file is being written
		return unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	})
	k.wait(3000, 6000)
	return func() {
		if err := unix.Mount("", at, "", unix.MS_REMOUNT, ""); err != nil {
			k.t.Fatal(err)
		}
	}
}

// damaged changes bytes in a part of a group's state while the node is stopped.
func (k *soak) damaged() func() {
	n, part := k.primary, []string{"catalog.db", "log"}[k.rng.IntN(2)]
	if k.rng.IntN(2) == 0 {
		n, part = k.standby, []string{"catalog.db", "log", "apply.db"}[k.rng.IntN(3)]
	}
	n.kill()
	path := filepath.Join(n.state, "groups", groupNames[k.rng.IntN(2)], part)
	if part == "log" {
		segments, err := filepath.Glob(path + "/*.log")
		if err != nil || len(segments) == 0 {
			k.t.Fatalf("segments %q, %v", segments, err)
		}
		path = segments[k.rng.IntN(len(segments))]
	}
	told := flip(k.t, path, k.rng)
	n.start()
	return func() {
		select {
		case <-n.ended: // another version is refused, as flipped bits may make it look
			k.t.Logf("the %s says: %s", n.role, n.tail(3))
			n.wait()
			k.away(path)
			n.start()
		case <-time.After(3 * time.Second):
			if s, err := n.status(); err == nil && slices.ContainsFunc(s.Health, func(c health.Condition) bool {
				return c.Code == "group-failed" && strings.Contains(c.Text, "format")
			}) {
				k.t.Logf("the %s of the %s looks like another version: %s", part, n.role, told)
				k.away(path)
			}
		}
	}
}

// away removes what the message of a daemon names.
func (k *soak) away(path string) {
	if err := os.RemoveAll(path); err != nil {
		k.t.Fatal(err)
	}
}

func (k *soak) stateLost() func() {
	n := []*node{k.primary, k.standby}[k.rng.IntN(2)]
	n.kill()
	if err := os.RemoveAll(filepath.Join(n.state, "groups", groupNames[k.rng.IntN(2)])); err != nil {
		k.t.Fatal(err)
	}
	return func() { n.start() }
}

// allLost empties the standby's state directory while it runs: it ends, and is
// paired anew.
func (k *soak) allLost() func() {
	entries, err := os.ReadDir(k.standby.state)
	if err != nil {
		k.t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(k.standby.state, e.Name())); err != nil {
			k.t.Fatal(err)
		}
	}
	if code := k.standby.wait(); code != 1 {
		k.t.Errorf("the standby ended with %d: %s", code, k.standby.tail(3))
	}
	return func() {
		k.standby.start()
		k.standby.up()
		k.join()
	}
}

// replaced puts an empty directory into a tree's place, as an unmount does.
func (k *soak) replaced() func() {
	tree := []string{"b", "c"}[k.rng.IntN(2)]
	n, dir := k.standby, ""
	from, to := k.sides(tree)
	if dir = to; k.rng.IntN(2) == 0 {
		n, dir = k.primary, from
	}
	if n == k.primary {
		// The editors work on there, by path: what they do in the wrong place goes.
		k.t.Logf("the primary's tree %s is replaced", tree)
	}
	if err := unix.Rename(dir, dir+".away"); err != nil {
		k.t.Fatal(err)
	}
	mkdirs(k.t, dir)
	n.unwell("guard-halted", "replaced")
	k.wait(0, 3000)
	return func() {
		if err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, dir+".away", unix.RENAME_EXCHANGE); err != nil {
			k.t.Fatal(err)
		}
		poll(k.t, "the wrong directory is gone", func() error { return os.RemoveAll(dir + ".away") })
	}
}

func (k *soak) flooded() func() {
	f := newFlood(k.t, k.standby, k.listen)
	k.wait(3000, 6000)
	return f.stop
}
