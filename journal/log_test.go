package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"repld/change"
	"repld/journal"
	"repld/journal/journaltest"
)

func open(t testing.TB, disk *journaltest.Disk, segmentSize int64) *journal.Log {
	t.Helper()
	l, err := journal.Open("memory", journal.Options{Disk: disk, SegmentSize: segmentSize, Buffer: 512})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fresh opens an empty log with an incarnation that is 16 times b.
func fresh(t testing.TB, disk *journaltest.Disk, segmentSize int64, b byte) *journal.Log {
	t.Helper()
	l := open(t, disk, segmentSize)
	begin(t, l, b)
	return l
}

func id(b byte) (id change.IncarnationID) {
	for i := range id {
		id[i] = b
	}
	return id
}

func begin(t testing.TB, l *journal.Log, b byte) {
	t.Helper()
	if err := l.SetIncarnation(id(b)); err != nil {
		t.Fatal(err)
	}
}

func appendAll(t testing.TB, l *journal.Log, records ...change.Record) change.LogPosition {
	t.Helper()
	for _, rec := range records {
		if _, err := l.Append(rec); err != nil {
			t.Fatal(err)
		}
	}
	return l.End()
}

func links(n int) (records []change.Record) {
	for i := range n {
		records = append(records, &change.Link{Parent: change.NodeID(i), Name: fmt.Sprintf("name-%d", i), Node: change.NodeID(i + 1)})
	}
	return records
}

// readAll returns the records from an offset on and where they begin.
func readAll(l *journal.Log, from uint64) (records []change.Record, offsets []uint64, err error) {
	r, err := l.Reader(from)
	if err != nil {
		return nil, nil, err
	}
	for {
		rec, at, err := r.Next()
		if err == io.EOF {
			return records, offsets, nil
		}
		if err != nil {
			return records, offsets, err
		}
		if c, ok := rec.(*change.Chunk); ok {
			c.Data = bytes.Clone(c.Data)
		}
		records, offsets = append(records, rec), append(offsets, at)
	}
}

func raw(t testing.TB, l *journal.Log) []byte {
	t.Helper()
	b := make([]byte, l.End().Offset-l.Start())
	if len(b) == 0 {
		return b
	}
	if n, err := l.ReadBlock(b, l.Start()); err != nil || n != len(b) {
		t.Fatalf("%d of %d bytes: %v", n, len(b), err)
	}
	return b
}

func TestLogInDirectory(t *testing.T) {
	dir := t.TempDir()
	want := unchained()
	var end change.LogPosition
	for round := range 3 {
		l, err := journal.Open(dir, journal.Options{SegmentSize: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if round > 0 && l.End() != end {
			t.Fatalf("opened at %+v, was closed at %+v", l.End(), end)
		}
		if l.Durable() != l.End() {
			t.Fatal("an opened log is durable")
		}
		if round == 2 {
			got, offsets, err := readAll(l, 0)
			if err != nil || len(got) != 2*len(want) {
				t.Fatal(len(got), err)
			}
			for i, rec := range got {
				if _, ok := rec.(*change.Barrier); !ok && !reflect.DeepEqual(rec, want[i%len(want)]) {
					t.Fatalf("record %d: %#v", i, rec)
				}
				if c, ok := rec.(*change.Chunk); ok {
					again, err := l.ReadChunk(offsets[i])
					if err != nil || !reflect.DeepEqual(again, c) {
						t.Fatal(again, err)
					}
				}
			}
		} else {
			begin(t, l, byte(1+round))
			end = appendAll(t, l, unchained()...)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := journal.Open(dir+"/missing", journal.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// unchained are allRecords as one appends them: barriers get their chain from the log.
func unchained() []change.Record { return allRecords() }

func TestAppendNeedsNewIncarnation(t *testing.T) {
	disk := &journaltest.Disk{}
	l := open(t, disk, 0)
	if _, err := l.Append(&change.Unlink{Name: "a"}); !errors.Is(err, journal.ErrIncarnation) {
		t.Fatal(err)
	}
	begin(t, l, 1)
	appendAll(t, l, links(3)...)
	l.Close()
	l = open(t, disk, 0)
	begin(t, l, 1) // not a new one
	if _, err := l.Append(&change.Unlink{Name: "a"}); !errors.Is(err, journal.ErrIncarnation) {
		t.Fatal(err)
	}
	begin(t, l, 2)
	end := appendAll(t, l, links(1)...)
	if end.Incarnation != id(2) {
		t.Fatal(end)
	}
}

func TestBarrierGetsChain(t *testing.T) {
	l := fresh(t, &journaltest.Disk{}, 0, 1)
	before := appendAll(t, l, links(3)...)
	b := &change.Barrier{}
	appendAll(t, l, b)
	if b.Chain != before.Chain {
		t.Fatalf("chain %v, want %v", b.Chain, before.Chain)
	}
	if _, err := l.Append(b); !errors.Is(err, change.ErrMalformed) {
		t.Fatalf("an old chain: %v", err)
	}
}

// The chain of a chunk leaves out its data and its encoded length.
func TestChainRule(t *testing.T) {
	l := fresh(t, &journaltest.Disk{}, 0, 1)
	var chain change.Digest
	for _, rec := range []change.Record{allRecords()[0], &change.Unlink{Parent: 1, Name: "x"}} {
		b, err := journal.AppendRecord(nil, rec)
		if err != nil {
			t.Fatal(err)
		}
		body := b[9:]
		if b[8] == byte(journal.TypeChunk) {
			body = body[:32+1+4]
		}
		chain = blake3.Sum256(append(append(chain[:], b[8]), body...))
		if end := appendAll(t, l, rec); end.Chain != chain {
			t.Fatalf("%T: chain %v, want %v", rec, end.Chain, chain)
		}
	}
}

func TestPositionAt(t *testing.T) {
	disk := &journaltest.Disk{}
	l := fresh(t, disk, 700, 1)
	positions := []change.LogPosition{{}}
	for i, rec := range append(links(100), unchained()...) {
		if i == 50 {
			begin(t, l, 2)
		}
		positions = append(positions, appendAll(t, l, rec))
	}
	check := func(l *journal.Log) {
		t.Helper()
		for _, want := range positions {
			if got, err := l.PositionAt(want.Offset); err != nil || got != want {
				t.Fatalf("position %+v, want %+v: %v", got, want, err)
			}
		}
	}
	check(l)
	if _, err := l.PositionAt(positions[7].Offset + 1); !errors.Is(err, journal.ErrNotBoundary) && !errors.Is(err, journal.ErrDamaged) {
		t.Error(err)
	}
	if _, err := l.PositionAt(l.End().Offset + 1); !errors.Is(err, journal.ErrBeyond) {
		t.Error(err)
	}
	l.Close()
	l = open(t, disk, 700)
	check(l)
	for _, want := range positions[60:] {
		if err := l.Free(want.Offset); err != nil {
			t.Fatal(err)
		}
		if l.Start() > want.Offset {
			t.Fatalf("freed up to %d, wanted to keep %d", l.Start(), want.Offset)
		}
		if got, err := l.PositionAt(want.Offset); err != nil || got != want {
			t.Fatalf("position %+v, want %+v: %v", got, want, err)
		}
	}
	if _, err := l.PositionAt(0); !errors.Is(err, journal.ErrFreed) {
		t.Error(err)
	}
	if l.Bytes() > 5000 {
		t.Errorf("%d bytes are left", l.Bytes())
	}
}

func TestHeadReader(t *testing.T) {
	l := fresh(t, &journaltest.Disk{}, 200<<10, 1)
	data := samples(64 << 10)["random"]
	for i := range 20 {
		appendAll(t, l, &change.Chunk{Digest: blake3.Sum256(data), Codec: change.CodecRaw, RawLen: uint32(len(data)), Data: data},
			&change.Link{Parent: 1, Name: "a", Node: change.NodeID(i)})
	}
	r, err := l.HeadReader(0)
	if err != nil {
		t.Fatal(err)
	}
	want, offsets, err := readAll(l, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, rec := range want {
		if c, ok := rec.(*change.Chunk); ok {
			c.Data = nil
		}
		got, at, err := r.Next()
		if err != nil || at != offsets[i] || !reflect.DeepEqual(got, rec) {
			t.Fatalf("%d: %#v at %d, %v", i, got, at, err)
		}
	}
	if _, at, err := r.Next(); err != io.EOF || at != l.End().Offset || r.Offset() != at {
		t.Fatal(at, err)
	}
	appendAll(t, l, links(1)...)
	if _, _, err := r.Next(); err != nil {
		t.Fatalf("after more was appended: %v", err)
	}
}

func TestWaitFor(t *testing.T) {
	l := fresh(t, &journaltest.Disk{}, 0, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.WaitFor(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error)
	wait := func(offset uint64) { done <- l.WaitFor(ctx, offset) }
	go wait(0)
	end := appendAll(t, l, links(1)...)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	go wait(end.Offset)
	l.Close()
	if err := <-done; !errors.Is(err, journal.ErrClosed) {
		t.Fatal(err)
	}
}

func TestReadersAfterCuts(t *testing.T) {
	l := fresh(t, &journaltest.Disk{}, 100, 1)
	appendAll(t, l, links(10)...)
	middle := l.End()
	appendAll(t, l, links(30)...)
	r, err := l.Reader(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Free(middle.Offset); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Next(); !errors.Is(err, journal.ErrFreed) {
		t.Error(err)
	}
	if _, err := l.Reader(0); !errors.Is(err, journal.ErrFreed) {
		t.Error(err)
	}
	if r, err = l.Reader(middle.Offset); err != nil {
		t.Fatal(err)
	}
	if _, _, err = r.Next(); err != nil {
		t.Fatal(err)
	}
	if err := l.TruncateTo(middle.Offset); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Next(); !errors.Is(err, journal.ErrStale) {
		t.Error(err)
	}
	if _, err := l.Reader(middle.Offset + 1); !errors.Is(err, journal.ErrBeyond) {
		t.Error(err)
	}
	if err := l.TruncateTo(0); !errors.Is(err, journal.ErrFreed) {
		t.Error(err)
	}
}
