package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"repld/wire"
)

// stateOf is the directory of what a node keeps of its only group.
func stateOf(n *node) string { return filepath.Join(n.state, "groups", "tree") }

// TestCatalogDamaged destroys the first pages of each database of either side: it is
// set aside, told, and made again.
func TestCatalogDamaged(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	for i := range 20 {
		write(t, fmt.Sprintf("%s/f%d", p.from, i), fmt.Sprintf("file %d", i))
	}
	p.equal()
	for _, what := range []struct {
		n    *node
		name string
	}{{p.primary, "catalog.db"}, {p.standby, "catalog.db"}, {p.standby, "apply.db"}} {
		what.n.stop()
		path := filepath.Join(stateOf(what.n), what.name)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(bytes.Repeat([]byte("damage"), 4096), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		write(t, p.from+"/new "+what.n.role+what.name, "new")
		what.n.start()
		what.n.up()
		what.n.unwell("state-damaged", what.name)
		p.linked()
		p.equal()
		p.proved()
		if err := os.Remove(path + ".damaged"); err != nil {
			t.Fatal(err)
		}
		what.n.well()
	}
}

// TestCatalogBitsFlipped changes random bytes of the databases of either side, a
// different place and number each time. What is damaged is noticed, set aside and made
// again without anybody's help, or the bytes mean nothing; nothing wrong is replicated.
func TestCatalogBitsFlipped(t *testing.T) {
	t.Parallel()
	seed := seeded(t)
	p := newPair(t, seed)
	e := newEditor(t, p.from, seed)
	for range 300 {
		e.step()
	}
	p.equal()
	rng := rand.New(rand.NewPCG(seed, 5))
	outcomes := map[string]int{}
	for round := range faults(t, 3) {
		n, name := p.primary, "catalog.db"
		switch round % 3 {
		case 1:
			n = p.standby
		case 2:
			n, name = p.standby, "apply.db"
		}
		n.stop()
		path := filepath.Join(stateOf(n), name)
		flips := flip(t, path, rng)
		if left, err := os.ReadDir(p.from); err != nil {
			t.Fatal(err)
		} else if len(left) < 20 { // a tree that the editor empties would halt the primary
			for i := range 20 {
				write(t, fmt.Sprintf("%s/round %d, file %d", p.from, round, i), "of many")
			}
		}
		for range 5 {
			e.step()
		}
		t.Logf("round %d: %s of the %s, %s", round, name, n.role, flips)
		n.start()
		n.up()
		p.linked()
		p.heal()
		p.proved()
		outcome := "meant nothing"
		if err := os.Remove(path + ".damaged"); err == nil {
			outcome = "set aside"
		}
		outcomes[name+" of the "+n.role+" "+outcome]++
		for range 5 {
			e.step()
		}
		p.heal()
		p.proved()
		emptySalvage(t, p.to)
		p.equal()
	}
	t.Logf("%v", outcomes)
}

// flip changes some bytes of a file, in its first pages or anywhere.
func flip(t *testing.T, path string, rng *rand.Rand) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := bytes.TrimRight(b, "\x00")
	within := len(used)
	if rng.IntN(4) == 0 {
		within = min(within, 4*4096)
	}
	var told []string
	for range 1 << rng.IntN(8) {
		at := rng.IntN(within)
		for tries := 0; b[at] == 0 && tries < 1000; tries++ { // where something stands
			at = rng.IntN(within)
		}
		b[at] ^= 1 << rng.IntN(8)
		told = append(told, fmt.Sprint(at))
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d of %d bytes: %.60s", len(told), len(b), strings.Join(told, " "))
}

// TestSegmentsDamaged does to the logs of either side, stopped, what disks and
// people do: cuts a segment off, changes places of two, takes one away, changes bytes.
func TestSegmentsDamaged(t *testing.T) {
	t.Parallel()
	damages := []struct {
		name string
		do   func(t *testing.T, segments []string)
	}{
		{"truncated", func(t *testing.T, s []string) {
			st, err := os.Stat(s[len(s)-1])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(s[len(s)-1], max(st.Size()/2, 600)); err != nil {
				t.Fatal(err)
			}
		}},
		{"emptied", func(t *testing.T, s []string) {
			if err := os.Truncate(s[0], 0); err != nil {
				t.Fatal(err)
			}
		}},
		{"swapped", func(t *testing.T, s []string) {
			exchange(t, s[0], s[len(s)-1])
		}},
		{"missing", func(t *testing.T, s []string) {
			if err := os.Remove(s[len(s)/2]); err != nil {
				t.Fatal(err)
			}
		}},
		{"of an impossible version", func(t *testing.T, s []string) {
			b, err := os.ReadFile(s[0])
			if err != nil {
				t.Fatal(err)
			}
			b[9] ^= 1 << 3
			if err := os.WriteFile(s[0], b, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"flipped", func(t *testing.T, s []string) {
			rng := rand.New(rand.NewPCG(1, 6))
			for _, path := range s {
				flip(t, path, rng)
			}
		}},
	}
	p := newPair(t, 1)
	write(t, p.from+"/a", "one")
	for i := range 20 { // a base that differs in one of few files would halt
		write(t, fmt.Sprintf("%s/other%d", p.from, i), "stays")
	}
	p.equal()
	// The short form takes some of them, others each time.
	rng := rand.New(rand.NewPCG(seeded(t), 10))
	for _, which := range rng.Perm(2 * len(damages))[:min(faults(t, 2), 2*len(damages))] {
		d := damages[which/2]
		for _, n := range []*node{p.standby, p.primary}[which%2:][:1] {
			t.Run(n.role+" "+d.name, func(t *testing.T) {
				// What is in the logs is more than one segment, and not applied.
				p.standby.must("pause")
				for i := range 3 {
					write(t, fmt.Sprintf("%s/%s %s %d", p.from, n.role, d.name, i), noise(t, uint64(i), 1<<20))
					p.primary.must("barrier", "--wait", "received", "--timeout", patience.String())
					if i < 2 {
						p.primary.restart(t) // a new incarnation begins a segment
					}
				}
				p.standby.must("resume") // in this state it would be applied, but for the stop
				p.standby.must("pause")
				n.stop()
				segments, err := filepath.Glob(filepath.Join(stateOf(n), "log", "*.log"))
				if err != nil || len(segments) == 0 {
					t.Fatalf("segments %q, %v", segments, err)
				}
				slices.Sort(segments)
				d.do(t, segments)
				write(t, p.from+"/a", n.role+d.name)
				n.start()
				p.resumes(n)
				p.equal()
				p.proved()
			})
		}
	}
}

// resumes waits until applying goes on, also if the pause was forgotten with the state.
func (p *pair) resumes(n *node) {
	p.t.Helper()
	poll(p.t, "the "+n.role+" goes on", func() error {
		n.alive()
		if r := p.standby.ctl("resume"); r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	})
	p.primary.up()
	p.linked()
}

// TestStateDeleted removes the whole state directory of either side, running or
// stopped. A node without its state never overwrites anything: it has lost its
// identity, says so, and is paired anew; its tree is taken as it lies there.
func TestStateDeleted(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"standby", "primary"} {
		for _, running := range []bool{false, true} {
			name := side + " stopped"
			if running {
				name = side + " running"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, 1)
				for i := range 20 {
					write(t, fmt.Sprintf("%s/f%d", p.from, i), fmt.Sprintf("file %d", i))
				}
				p.equal()
				n := p.primary
				if side == "standby" {
					n = p.standby
				}
				if !running {
					n.stop()
				}
				if err := os.RemoveAll(n.state); err != nil {
					t.Fatal(err)
				}
				if running {
					write(t, p.from+"/f0", "after the state was deleted")
					p.noticesLoss(n)
				}
				p.pairsAnew(n)
				p.equal() // what is written before the seed has looked differs from what it finds
				write(t, p.from+"/f1", "after pairing anew")
				p.equal()
				p.proved()
				// Without its state nobody knows whose an object is: what differs is kept.
				for _, kept := range salvaged(t, p.to) {
					if !running || filepath.Base(kept) != "f0" {
						t.Errorf("set aside: %s", kept)
					}
				}
			})
		}
	}
}

// noticesLoss wants a daemon whose state directory is gone to end with 1, and to say
// what to do.
func (p *pair) noticesLoss(n *node) {
	p.t.Helper()
	select {
	case <-n.ended:
	case <-time.After(patience):
		p.t.Fatalf("the %s goes on without its state directory", n.role)
	}
	last := n.tail(3)
	if code := n.wait(); code != 1 || !strings.Contains(last, "state directory") {
		p.t.Errorf("the %s ended with %d:\n%s", n.role, code, last)
	}
	p.t.Logf("the %s says: %s", n.role, last)
}

// pairsAnew does what an operator does for a node that has lost its state.
func (p *pair) pairsAnew(n *node) {
	p.t.Helper()
	if n == p.primary {
		// The standby accepts its old peer only: it forgets it.
		p.standby.stop()
		if err := os.Remove(filepath.Join(p.standby.state, "peer.yaml")); err != nil {
			p.t.Fatal(err)
		}
	}
	p.standby.start()
	token, err := wire.ParseToken(p.standby.token(), time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	token.Address = p.relay.Addr()
	if n == p.standby {
		p.primary.unwell("link-down", "")
		p.primary.stop()
		if err := os.Remove(filepath.Join(p.primary.state, "peer.yaml")); err != nil {
			p.t.Fatal(err)
		}
	}
	p.primary.start("--join", token.String())
	p.primary.up()
	p.linked()
}

// emptySalvage removes what was set aside beside a standby's tree.
func emptySalvage(t testing.TB, tree string) {
	t.Helper()
	kept, err := filepath.Glob(filepath.Join(filepath.Dir(tree), ".repld-"+filepath.Base(tree), "salvage", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range kept {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

// salvaged lists what was set aside beside a standby's tree.
func salvaged(t *testing.T, tree string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(tree), ".repld-"+filepath.Base(tree), "salvage", "*", "files", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}
