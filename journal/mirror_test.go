package journal_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"repld/change"
	"repld/journal"
	"repld/journal/journaltest"
)

// ship brings to as far as from is, in blocks of random sizes, as a session would:
// common offset, proof by position, incarnations at their starts.
func ship(t *rapid.T, from, to *journal.Log) {
	common, ok := from.Common(to.End())
	if !ok || common < to.Start() {
		if err := to.Reset(mustPosition(t, from, from.Start())); err != nil {
			t.Fatal(err)
		}
		common = from.Start()
	}
	if a, b := mustPosition(t, from, common), mustPosition(t, to, common); a != b {
		t.Fatalf("at the common offset %d one has %+v, the other %+v", common, a, b)
	}
	if err := to.TruncateTo(common); err != nil {
		t.Fatal(err)
	}
	list := from.Incarnations()
	for i, in := range list {
		end := from.End().Offset
		if i+1 < len(list) {
			end = list[i+1].Start
		}
		at := to.End().Offset
		if end <= at {
			continue
		}
		if err := to.SetIncarnation(in.ID); err != nil {
			t.Fatal(err)
		}
		for at < end {
			block := make([]byte, min(end-at, uint64(rapid.IntRange(1, 3000).Draw(t, "block"))))
			n, err := from.ReadBlock(block, at)
			if err != nil {
				t.Fatal(err)
			}
			if err := to.AppendRaw(at, block[:n]); err != nil {
				t.Fatal(err)
			}
			at += uint64(n)
		}
	}
}

func mustPosition(t *rapid.T, l *journal.Log, at uint64) change.LogPosition {
	pos, err := l.PositionAt(at)
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

// However the sender's log is cut, freed and reopened, a receiver that follows the
// rules of a session has the same log.
func TestMirror(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disks := []*journaltest.Disk{{}, {}}
		sizes := []int64{1500, 4000}
		logs := make([]*journal.Log, 2)
		reopen := func(i int) {
			if logs[i] != nil {
				if err := logs[i].Close(); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			if logs[i], err = journal.Open("memory", journal.Options{Disk: disks[i], SegmentSize: sizes[i], Buffer: 400}); err != nil {
				t.Fatal(err)
			}
		}
		reopen(0)
		reopen(1)
		next := byte(0)
		fresh := false
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				if !fresh {
					next++
					fresh = true
					if err := logs[0].SetIncarnation(id(next)); err != nil {
						t.Fatal(err)
					}
				}
				for range rapid.IntRange(1, 10).Draw(t, "records") {
					if _, err := logs[0].Append(anyRecord().Draw(t, "record")); err != nil {
						t.Fatal(err)
					}
				}
			},
			"truncate": func(t *rapid.T) {
				_, offsets, err := readAll(logs[0], logs[0].Start())
				if err != nil || len(offsets) == 0 {
					t.Skip(err)
				}
				fresh = false
				if err := logs[0].TruncateTo(rapid.SampledFrom(offsets).Draw(t, "offset")); err != nil {
					t.Fatal(err)
				}
			},
			"free": func(t *rapid.T) {
				which := rapid.IntRange(0, 1).Draw(t, "which")
				at := rapid.Uint64Range(0, logs[0].End().Offset).Draw(t, "before")
				if err := logs[which].Free(at); err != nil {
					t.Fatal(err)
				}
			},
			"reopen": func(t *rapid.T) {
				which := rapid.IntRange(0, 1).Draw(t, "which")
				fresh = fresh && which == 1
				reopen(which)
			},
			"ship": func(t *rapid.T) {
				ship(t, logs[0], logs[1])
				a, b := logs[0], logs[1]
				if a.End() != b.End() {
					t.Fatalf("ends at %+v and %+v", a.End(), b.End())
				}
				start := max(a.Start(), b.Start())
				size := a.End().Offset - start
				x, y := make([]byte, size), make([]byte, size)
				if size > 0 {
					_, err1 := a.ReadBlock(x, start)
					_, err2 := b.ReadBlock(y, start)
					if err1 != nil || err2 != nil || !bytes.Equal(x, y) {
						t.Fatal("other bytes", err1, err2)
					}
				}
				if at, ok := journal.Shared(a.Incarnations(), a.End().Offset, b.Incarnations(), b.End().Offset); len(a.Incarnations()) > 0 && size > 0 && (!ok || at != a.End().Offset) {
					t.Fatalf("shared up to %d of %d, %v: %v %v", at, a.End().Offset, ok, a.Incarnations(), b.Incarnations())
				}
			},
		})
	})
}

// One writes, syncs and frees, many read.
func TestConcurrentReaders(t *testing.T) {
	dir := t.TempDir()
	l, err := journal.Open(dir, journal.Options{SegmentSize: 20_000, Buffer: 2000})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	begin(t, l, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const total = 10_000
	const perRecord = 9 + 1 + 2 + 2 // a frame and a Link of fixed size
	var group sync.WaitGroup
	for i := range 3 {
		group.Go(func() {
			r, err := l.Reader(0)
			if i == 1 {
				r, err = l.HeadReader(0)
			}
			if err != nil {
				t.Error(err)
				return
			}
			for n := 0; n < total; {
				rec, at, err := r.Next()
				if err == io.EOF {
					err = l.WaitFor(ctx, at)
					if err == nil {
						continue
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
				if got := rec.(*change.Link).Node; got != change.NodeID(128+n) {
					t.Errorf("node %d, want %d", got, 128+n)
					return
				}
				n++
			}
		})
	}
	mirror := fresh(t, &journaltest.Disk{}, 0, 1)
	group.Go(func() {
		block := make([]byte, 5000)
		for mirrored := 0; mirrored < total; mirrored = int(mirror.End().Offset / perRecord) {
			at := mirror.End().Offset
			err := l.WaitFor(ctx, at)
			var n int
			if err == nil {
				n, err = l.ReadBlock(block, at)
			}
			if err == nil {
				err = mirror.AppendRaw(at, block[:n])
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	group.Go(func() {
		for l.End().Offset < total*perRecord/2 && ctx.Err() == nil {
			if err := l.Sync(); err != nil {
				t.Error(err)
				return
			}
			if pos, err := l.PositionAt(l.Durable().Offset); err != nil && !errors.Is(err, journal.ErrFreed) {
				t.Error(pos, err)
				return
			}
		}
	})
	for i := range total {
		if _, err := l.Append(&change.Link{Parent: 1, Name: "a", Node: change.NodeID(128 + i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	if err := l.Free(l.End().Offset); err != nil {
		t.Fatal(err)
	}
	if l.Durable() != l.End() || !slices.Equal(mirror.Incarnations(), l.Incarnations()) {
		t.Error("not durable, or other incarnations")
	}
}
