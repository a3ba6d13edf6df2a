package capture

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"repld/change"
	"repld/journal/catalog"
	"repld/watch"
)

// TestHoleBesideAttributes: a small hole is one in the catalog, too, where what the file
// system keeps of the file besides takes as much room.
func TestHoleBesideAttributes(t *testing.T) {
	both(t, func(t *testing.T, b watch.Backend) {
		r := newRig(t, b, "")
		const block, size = 4 << 10, 32 << 10
		must(t, os.WriteFile(r.path("f"), noise(1, size), 0o644))
		must(t, unix.Setxattr(r.path("f"), "user.long", noise(2, 2000), 0))
		f, err := os.OpenFile(r.path("f"), os.O_WRONLY, 0)
		must(t, err)
		defer f.Close()
		must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 2*block, block))
		r.up().barrier()
		var holes []catalog.Ref
		must(t, r.catalog.View(func(tx *catalog.Tx) error {
			node, _ := walk(tx, change.GroupNode, "tree/f")
			for ref := range tx.Refs(node, 0) {
				if ref.Hole() {
					holes = append(holes, ref)
				}
			}
			return nil
		}))
		if len(holes) != 1 || holes[0].Offset != 2*block || holes[0].Length != block {
			t.Errorf("the holes are %+v, want one of %d bytes at %d", holes, block, 2*block)
		}
	})
}
