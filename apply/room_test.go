package apply

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"repld/health"
)

// roomy returns a seeded pair whose standby has reserve+above bytes free, by its own
// account.
func roomy(t *testing.T, files map[string]string) (p *primary, s *standby, above *atomic.Int64) {
	t.Helper()
	const reserve = 1 << 30
	above = new(atomic.Int64)
	above.Store(1 << 30)
	p = newPrimary(t)
	for path, data := range files {
		p.write(path, data)
	}
	s = newStandby(t, p)
	s.options = func(o *Options) {
		o.Space = func(int) (uint64, uint64, error) { return uint64(reserve + above.Load() - s.staged()), reserve, nil }
	}
	must(t, s.start())
	seed(t, p, s)
	return p, s, above
}

// staged is how many bytes the staging directory holds.
func (s *standby) staged() (n int64) {
	_ = filepath.Walk(filepath.Join(s.vol.OwnPath(), stageDir), func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil // workers come and go
	})
	return n
}

// lacks wants a step to fail for want of room, and to leave the tree alone.
func (s *standby) lacks(t *testing.T) *ErrNoRoom {
	t.Helper()
	before := listing(t, s.dir)
	var lacks *ErrNoRoom
	if err := s.Step(t.Context()); !errors.As(err, &lacks) {
		t.Fatalf("Step: %v, want no room", err)
	}
	equal(t, "no room", listing(t, s.dir), before)
	return lacks
}

// TestReserve: what is to be kept free isn't used for a barrier, and the barrier is
// applied once there is room.
func TestReserve(t *testing.T) {
	p, s, above := roomy(t, map[string]string{"file": "small"})
	p.write("large", string(noise(1, 300_000)))
	p.barrier()
	s.receive(p)
	above.Store(200_000)
	lacks := s.lacks(t)
	if lacks.Tree != "tree" || lacks.Reserve != 1<<30 || lacks.Free < 1<<30 || lacks.Free > 1<<30+200_000 || lacks.Need == 0 {
		t.Errorf("found %+v", lacks)
	}
	if !s.has(health.DiskLow) {
		t.Error("the standby doesn't say that it lacks room")
	}
	above.Store(1_000_000)
	must(t, s.Step(t.Context()))
	same(t, p, s)
	if s.has(health.DiskLow) {
		t.Error("the condition stands")
	}
}

// TestNoRoomForALongFile: a file that found no room isn't fetched once more up to the same
// place; but it is when there is more room, by its length or not: file systems compress.
func TestNoRoomForALongFile(t *testing.T) {
	const length = 4 << 20
	p, s, above := roomy(t, map[string]string{"file": "small"})
	p.write("large", string(noise(1, length)))
	p.write("short", string(noise(2, 100_000)))
	p.barrier()
	s.receive(p)
	above.Store(2 << 20)
	if need := s.lacks(t).Need; need >= length {
		t.Errorf("at first %d bytes are wanted at once", need)
	}
	wants := func(what string, again bool) {
		t.Helper()
		kept := s.staged()
		lacks := s.lacks(t)
		if got := lacks.Need != length; got != again {
			t.Errorf("%s: it was tried again: %v; %d bytes were wanted", what, got, lacks.Need)
		}
		if s.staged() != kept {
			t.Errorf("%s: %d bytes are staged, %d were", what, s.staged(), kept)
		}
	}
	wants("no more room", false)
	above.Add(length / 32)
	wants("hardly any more", false)
	above.Add(length / 16)
	wants("some more", true)
	wants("no more than that", false)
	above.Store(length + 200_000)
	must(t, s.Step(t.Context()))
	same(t, p, s)
}

// TestReserveAndDeletions: what a barrier gives back may be used by it, or a tree that
// was emptied to make room could not be emptied on the standby.
func TestReserveAndDeletions(t *testing.T) {
	p, s, above := roomy(t, map[string]string{"old": string(noise(1, 400_000)), "other": "small"})
	must(t, os.Remove(p.at("old")))
	p.write("new", string(noise(2, 300_000)))
	p.barrier()
	s.receive(p)
	above.Store(-200_000)
	s.lacks(t) // 400,000 come back, 500,000 would be used of the reserve
	above.Store(0)
	must(t, s.Step(t.Context()))
	same(t, p, s)
}

// TestReserveOrHistory: the history gives way before a barrier waits for room.
func TestReserveOrHistory(t *testing.T) {
	p, s, above := roomy(t, map[string]string{"file": string(noise(1, 300_000))})
	p.write("file", string(noise(2, 300_000)))
	s.sync(p)
	if len(s.Retained()) != 1 {
		t.Fatalf("%d barriers are retained, want 1", len(s.Retained()))
	}
	space := s.o.Space
	s.o.Space = func(i int) (uint64, uint64, error) {
		free, reserve, err := space(i)
		if len(s.Retained()) == 0 {
			free += 1_000_000
		}
		return free, reserve, err
	}
	above.Store(0)
	p.write("file", string(noise(3, 300_000)))
	p.barrier()
	s.receive(p)
	must(t, s.Step(t.Context()))
	same(t, p, s)
}

// TestRewindWithoutRoom: a rewind for which there is no room is refused before it copies
// anything, and says how much it needs.
func TestRewindWithoutRoom(t *testing.T) {
	p, s, above := roomy(t, map[string]string{"file": string(noise(1, 300_000)), "same": string(noise(9, 300_000))})
	good, _ := s.Applied()
	before := listing(t, s.dir)
	p.write("file", string(noise(2, 300_000)))
	s.sync(p)
	now := listing(t, s.dir)
	above.Store(299_999)
	var lacks *ErrNoRoom
	if err := s.Rewind(t.Context(), good.ID); !errors.As(err, &lacks) {
		t.Fatalf("Rewind: %v, want no room", err)
	}
	if lacks.Need != 300_000 || !strings.Contains(lacks.Error(), `tree "tree": 293 KiB are needed, 1.0 GiB are free, of which 1.0 GiB are to be kept free`) {
		t.Errorf("%+v says %q", lacks, lacks)
	}
	equal(t, "refused", listing(t, s.dir), now)
	if s.Paused() {
		t.Error("the refusal leaves applying paused")
	}
	above.Store(300_000)
	must(t, s.Rewind(t.Context(), good.ID))
	equal(t, "rewound", listing(t, s.dir), before)
}
