package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"repld/role"
)

// newest is the node whose service was the last to accept anything.
func (k *roleStorm) newest() *station {
	all := writings(k.both()...)
	if len(all) == 0 {
		return k.last
	}
	last := slices.MaxFunc(all, func(x, y writing) int { return int(x.last - y.last) })
	for _, s := range k.both() {
		if s.name == last.node {
			return s
		}
	}
	return k.a
}

// check wants all to be well.
func (k *roleStorm) check(serving, stands *station) {
	k.t.Helper()
	seat := slices.Index(k.both(), serving)
	k.last = serving
	k.w.works(seat, 5)
	stands.serves(false)
	k.w.gate.Lock()
	defer k.w.gate.Unlock()
	k.current(serving)
	sameTrees(k.t, k.a.tree, k.b.tree)
	k.neverTwo()
	k.accounted(serving, stands)
	for _, s := range k.both() {
		poll(k.t, "nothing of roles is wrong on "+s.name, func() error {
			status, err := s.node.status()
			if err != nil {
				return err
			}
			for _, c := range status.Health {
				switch c.Code {
				case "held", "fenced", "split-brain", "role-stuck", "hook-failed", "link-down", "coordination-down":
					return fmt.Errorf("%s: %s", c.Code, c.Text)
				}
			}
			return nil
		})
	}
	k.trim()
	if k.t.Failed() {
		k.t.FailNow()
	}
}

// neverTwo wants that the times in which services worked don't overlap.
func (k *roleStorm) neverTwo() {
	k.t.Helper()
	all := writings(k.both()...)
	for i, w := range all {
		for _, v := range all[i+1:] {
			if v.first <= w.last {
				k.t.Errorf("two writers: the service of %s (process %d) worked from %v to %v, that of %s (process %d) from %v to %v",
					w.node, w.run, w.first, w.last, v.node, v.run, v.first, v.last)
			}
		}
	}
}

// accounted wants everything that was acknowledged on the node that serves, but what a
// ledger of this round says is given up; that it wants in the salvage of the other one.
func (k *roleStorm) accounted(serving, stands *station) {
	k.t.Helper()
	cuts := k.newLedgers()
	ended := map[int]time.Time{}
	for _, s := range k.both() {
		for _, a := range s.log() {
			if a.End {
				ended[a.Number] = a.Wall
			}
		}
	}
	lines := map[string]bool{}
	for line := range strings.Lines(serving.journal()) {
		lines[line] = true
	}
	lost := [2]map[int]serviceOp{{}, {}}
	for n, a := range k.w.acknowledged() {
		if _, gone := k.lost[n]; gone || k.ops[n] {
			continue
		}
		if file, _ := serving.has(a.serviceOp, ""); file && lines[a.line()] {
			continue
		}
		if !slices.ContainsFunc(cuts, func(l role.Ledger) bool { return ended[n].After(l.Groups[0].CutAt) }) {
			k.t.Errorf("operation %d, which %s acknowledged at %s, is lost, and no ledger says so: %d ledgers", n, k.both()[a.node].name, ended[n].Format("15:04:05.000"), len(cuts))
			continue
		}
		lost[a.node][n], k.lost[n] = a.serviceOp, a.serviceOp
		k.lostEver++
	}
	for i, s := range k.both() {
		if len(lost[i]) > 0 {
			s.salvaged(lost[i])
		}
	}
}

// newLedgers are those of failovers since the last call.
func (k *roleStorm) newLedgers() (all []role.Ledger) {
	k.t.Helper()
	for _, s := range k.both() {
		paths, err := filepath.Glob(filepath.Join(s.node.state, "failovers", "*.json"))
		if err != nil {
			k.t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				k.t.Fatal(err)
			}
			if k.ledgers[string(text)] {
				continue
			}
			k.ledgers[string(text)] = true
			var l role.Ledger
			if err := json.Unmarshal(text, &l); err != nil {
				k.t.Fatalf("%s: %v", path, err)
			}
			if len(l.Groups) > 0 { // a node that has served gives up nothing of its own
				all = append(all, l)
			}
		}
	}
	return all
}

// trimAbove is how many operations the trees may hold.
const trimAbove = 1500

// trim forgets what was checked, so that a long run doesn't become slow. The writer is
// paused, and the trees are equal.
func (k *roleStorm) trim() {
	k.t.Helper()
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	if len(k.w.acked) < trimAbove {
		return
	}
	remove := func(name string) {
		if err := os.Remove(filepath.Join(k.last.tree, name)); err != nil && !os.IsNotExist(err) {
			k.t.Fatal(err)
		}
	}
	for n, a := range k.w.acked {
		remove(a.name())
		k.ops[n] = true
	}
	remove("journal")
	clear(k.w.acked)
	for _, s := range k.both() {
		if err := os.Truncate(filepath.Join(s.dir, "service.log"), 0); err != nil && !os.IsNotExist(err) {
			k.t.Fatal(err)
		}
	}
}
