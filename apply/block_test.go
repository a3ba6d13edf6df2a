package apply

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"

	"repld/tree"
)

// TestBlocks: a long file is written in whole blocks but at the ends of its parts,
// every byte once, and a hole not at all.
func TestBlocks(t *testing.T) {
	const size, hole, holeLen = 9<<20 + 12345, 5<<20 + 777, 1 << 20
	p := newPrimary(t)
	p.write("short", string(noise(1, blockedMin-1)))
	p.write("long", string(noise(2, hole)))
	f, err := os.OpenFile(p.at("long"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(noise(3, size-hole-holeLen), hole+holeLen)
	must(t, err)
	must(t, f.Close())

	var mu sync.Mutex
	var writes []tree.Op
	s := newStandby(t, p)
	s.hook = func(op tree.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if op.Name == "write" && op.Off+op.Len > blockedMin { // not of the short file
			writes = append(writes, op)
		}
		return nil
	}
	must(t, s.start())
	seed(t, p, s)

	covered := make([]int, size)
	parts := 0
	for _, op := range writes {
		if op.Len < blockBytes {
			parts++
		}
		if first, last := op.Off/blockBytes, (op.Off+op.Len-1)/blockBytes; first != last {
			t.Errorf("%d bytes at %d go over the end of a block", op.Len, op.Off)
		}
		for i := op.Off; i < op.Off+op.Len; i++ {
			covered[i]++
		}
	}
	for i, n := range covered[blockedMin:] {
		if at := i + blockedMin; n > 1 || n == 0 && (at < hole-4096 || at >= hole+holeLen+4096) {
			t.Fatalf("byte %d is written %d times", at, n)
		}
	}
	// Each part of partBytes has a block that is not whole at its beginning and one at its end.
	if most := 2 * (size/partBytes + 2); parts > most {
		t.Errorf("%d of %d writes are of less than a block, want at most %d", parts, len(writes), most)
	}
	if covered[hole+holeLen/2] != 0 {
		t.Error("the hole is written")
	}
}

// TestBlockFails: what was kept for a block when the disk failed is written again.
func TestBlockFails(t *testing.T) {
	p := newPrimary(t)
	p.write("long", string(noise(4, 9*blockBytes+5)))
	p.barrier()
	s := newStandby(t, p)
	f := &failing{kind: "write", from: 5, cause: syscall.EIO, armed: true}
	s.hook = f.hook
	must(t, s.start())
	must(t, s.Seed(t.Context(), p.manifest()))
	if err := s.Step(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Step with a failing disk: %v", err)
	}
	f.armed = false
	must(t, s.Step(t.Context()))
	p.barrier()
	s.receive(p)
	must(t, s.Step(t.Context()))
	same(t, p, s)
}
