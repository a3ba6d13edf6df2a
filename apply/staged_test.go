package apply

import (
	"math/rand/v2"
	"testing"

	"repld/change"
)

// TestStagedRun: reading ahead finds what single look-ups find, in any order.
func TestStagedRun(t *testing.T) {
	s, err := openScratch(t.TempDir())
	must(t, err)
	defer s.close()
	rng := rand.New(rand.NewPCG(5, 6))
	const last = 2000
	var order []change.NodeID
	must(t, s.update(func(tx *scratchTx) error {
		for id := change.NodeID(1); id <= last; id++ {
			order = append(order, id)
			if rng.IntN(3) == 0 {
				continue
			}
			one := staged{how: stagedFull, meta: change.Digest{byte(id), byte(id >> 8)}}
			if err := tx.b(bucketStaged).Put(nodeKey(id), one.encode()); err != nil {
				return err
			}
		}
		return nil
	}))
	check := func(name string, order []change.NodeID) {
		t.Helper()
		var run stagedRun
		for _, id := range order {
			got, ok, err := run.get(s, id)
			must(t, err)
			must(t, s.view(func(tx *scratchTx) error {
				want, there, err := tx.staged(id)
				if got != want || ok != there {
					t.Fatalf("%s: node %d is staged as %+v (%v), want %+v (%v)", name, id, got, ok, want, there)
				}
				return err
			}))
		}
	}
	check("ascending", append(order, last+1, last+500))
	rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	check("shuffled", order)
}
