package journal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"repld/change"
	"repld/journal"
	"repld/journal/journaltest"
)

// model is what a log should hold.
type model struct {
	base   change.LogPosition
	raw    []byte               // from base on
	ends   []change.LogPosition // after each record
	synced uint64               // what must survive
	freed  uint64               // what may be gone
}

func (m *model) at(offset uint64) (change.LogPosition, bool) {
	if offset == m.base.Offset {
		return m.base, true
	}
	i, ok := slices.BinarySearchFunc(m.ends, offset, func(p change.LogPosition, o uint64) int {
		return int(int64(p.Offset) - int64(o))
	})
	if !ok {
		return change.LogPosition{}, false
	}
	return m.ends[i], true
}

func (m *model) end() change.LogPosition {
	if len(m.ends) == 0 {
		return m.base
	}
	return m.ends[len(m.ends)-1]
}

func (m *model) cut(offset uint64) {
	for len(m.ends) > 0 && m.end().Offset > offset {
		m.ends = m.ends[:len(m.ends)-1]
	}
	m.raw = m.raw[:offset-m.base.Offset]
	m.synced = min(m.synced, offset)
}

// check says how l is not a beginning of m that holds what it must.
func (m *model) check(l *journal.Log) error {
	start, end := l.Start(), l.End()
	want, ok := m.at(end.Offset)
	switch {
	case !ok || want != end:
		return fmt.Errorf("ends at %+v, want %+v (%v)", end, want, ok)
	case end.Offset < m.synced:
		return fmt.Errorf("ends at %d, but was synced up to %d", end.Offset, m.synced)
	case start < m.base.Offset || start > max(m.freed, m.base.Offset):
		return fmt.Errorf("starts at %d, was freed up to %d", start, m.freed)
	}
	got := make([]byte, end.Offset-start)
	if n, err := l.ReadBlock(got, start); len(got) > 0 && (err != nil || n != len(got)) {
		return fmt.Errorf("read %d of %d bytes: %w", n, len(got), err)
	}
	if !bytes.Equal(got, m.raw[start-m.base.Offset:end.Offset-m.base.Offset]) {
		return errors.New("other bytes than were appended")
	}
	_, offsets, err := readAll(l, start)
	if err != nil {
		return err
	}
	for _, at := range offsets {
		want, _ := m.at(at)
		if pos, err := l.PositionAt(at); err != nil || pos != want {
			return fmt.Errorf("position %+v, want %+v: %w", pos, want, err)
		}
	}
	return nil
}

// history drives one log through random operations, failures and crashes.
type history struct {
	t     *testing.T
	rng   *rand.Rand
	disk  *journaltest.Disk
	log   *journal.Log
	model model
	other *model // what a Reset that was interrupted may have led to
	ids   uint32 // incarnations so far
}

func (h *history) open() {
	l, err := journal.Open("memory", journal.Options{Disk: h.disk, SegmentSize: 2000, Buffer: 300})
	if err != nil {
		h.t.Fatal(err)
	}
	h.log = l
	err = h.model.check(l)
	if err != nil && h.other != nil {
		if err2 := h.other.check(l); err2 == nil {
			h.model, err = *h.other, nil
		}
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.other = nil
	h.model.cut(l.End().Offset)
	h.model.synced = l.End().Offset // what Open shows stays
	h.model.freed = max(h.model.freed, l.Start())
	// What the peers have, by whatever incarnation, is known or found unknown,
	// never wrong.
	for i := uint32(1); i <= h.ids; i++ {
		if at, ok := l.Common(change.LogPosition{Incarnation: numbered(i), Offset: l.End().Offset}); ok {
			if _, ok := h.model.at(at); !ok {
				h.t.Fatalf("common with incarnation %d at %d, where no record ends", i, at)
			}
		}
	}
}

func numbered(n uint32) (id change.IncarnationID) {
	binary.BigEndian.PutUint32(id[:], n)
	return id
}

func (h *history) record() change.Record {
	switch h.rng.IntN(8) {
	case 0:
		data := make([]byte, 1+h.rng.IntN(2500))
		for i := range data {
			data[i] = byte(h.rng.Uint32())
		}
		return &change.Chunk{Digest: change.Digest{1}, Codec: change.CodecRaw, RawLen: uint32(len(data)), Data: data}
	case 1:
		return &change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: h.rng.Uint64()}}}
	}
	return &change.Link{Parent: change.NodeID(h.rng.Uint64()), Name: "name", Node: 1}
}

// boundary picks a place between two records that are not freed.
func (h *history) boundary() uint64 {
	from := h.log.Start()
	var all []uint64
	for _, p := range h.model.ends {
		if p.Offset >= from {
			all = append(all, p.Offset)
		}
	}
	if len(all) == 0 {
		return h.log.End().Offset
	}
	return all[len(all)-1-h.rng.IntN(min(len(all), 40))]
}

func (h *history) step() error {
	h.ids++
	switch n := h.rng.IntN(100); {
	case n < 20:
		return h.sync()
	case n < 25:
		at := h.boundary()
		h.model.freed = max(h.model.freed, at)
		return h.log.Free(at)
	case n < 33:
		at := h.boundary()
		h.model.synced = min(h.model.synced, at)
		if err := h.log.TruncateTo(at); err != nil {
			return err
		}
		h.model.cut(at)
		h.model.synced = h.log.Durable().Offset
		return nil
	case n < 35:
		at := change.LogPosition{Incarnation: numbered(h.ids), Offset: uint64(h.rng.IntN(1e6)), Chain: change.Digest{byte(n)}}
		next := &model{base: at, synced: at.Offset}
		h.other = next
		if err := h.log.Reset(at); err != nil {
			return err
		}
		h.model, h.other = *next, nil
		return nil
	}
	if err := h.log.SetIncarnation(numbered(h.ids)); err != nil {
		return err
	}
	for range h.rng.IntN(20) {
		rec := h.record()
		before := h.log.End()
		pos, err := h.log.Append(rec)
		b, encodeErr := journal.AppendRecord(nil, rec)
		if encodeErr != nil {
			h.t.Fatal(encodeErr)
		}
		if err == nil || h.log.End() != before { // it may be there although it failed
			h.model.raw = append(h.model.raw, b...)
			h.model.ends = append(h.model.ends, h.log.End())
		}
		if err != nil {
			return err
		}
		if pos != h.log.End() || pos.Offset != before.Offset+uint64(len(b)) {
			h.t.Fatalf("appended at %+v: %+v", before, pos)
		}
	}
	h.model.synced = max(h.model.synced, h.log.Durable().Offset)
	return nil
}

func (h *history) sync() error {
	if err := h.log.Sync(); err != nil {
		return err
	}
	if h.log.Durable() != h.log.End() {
		h.t.Fatalf("durable %+v, end %+v", h.log.Durable(), h.log.End())
	}
	h.model.synced = h.log.End().Offset
	return nil
}

// seeds returns which seeds a randomised test runs: n of them, or the one in
// REPLD_SEED.
func seeds(t *testing.T, n int) []uint64 {
	if s := os.Getenv("REPLD_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return []uint64{seed}
	}
	first := rand.Uint64() % 1e9
	t.Logf("seeds %d to %d: REPLD_SEED repeats one", first, first+uint64(n)-1)
	all := make([]uint64, n)
	for i := range all {
		all[i] = first + uint64(i)
	}
	return all
}

// Whatever fails and wherever the power goes, the log comes back with all that was
// synced, and nothing that wasn't appended.
func TestCrashes(t *testing.T) {
	n := 60
	if testing.Short() {
		n = 20
	}
	for _, seed := range seeds(t, n) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 0)), disk: &journaltest.Disk{}}
			for range 25 {
				h.round()
			}
		})
	}
}

// round opens the log, works on it until something ends that, and says what is
// left of the disk.
func (h *history) round() {
	how := h.rng.IntN(4)
	if h.rng.IntN(10) == 0 { // the power goes while the log is opened
		h.disk.PowerOffAfter(h.rng.IntN(6))
		if l, err := journal.Open("memory", journal.Options{Disk: h.disk, SegmentSize: 2000}); err == nil {
			l.Close()
		}
		h.disk = h.disk.Crash(h.rng)
	}
	h.open()
	switch how {
	case 0: // power loss at some operation
		h.disk.PowerOffAfter(h.rng.IntN(60))
	case 1: // the disk fails once
		left := h.rng.IntN(60)
		h.disk.SetFault(func(op journaltest.Op) error {
			if op.Kind == "read" || op.Kind == "open" || op.Kind == "list" {
				return nil
			}
			if left--; left == 0 {
				return []error{syscall.EIO, syscall.ENOSPC}[h.rng.IntN(2)]
			}
			return nil
		})
	}
	var err error
	for range 30 {
		if err = h.step(); err != nil {
			break
		}
	}
	if how > 1 && err != nil {
		h.t.Fatal(err)
	}
	if errors.Is(err, journal.ErrFailed) {
		if err := h.log.Sync(); !errors.Is(err, journal.ErrFailed) {
			h.t.Fatalf("after %v: %v", err, err)
		}
	}
	h.disk.SetFault(nil)
	switch {
	case how == 2:
		if err := h.log.Close(); err != nil {
			h.t.Fatal(err)
		}
		h.model.synced = h.model.end().Offset
	case how == 1 && h.rng.IntN(2) == 0:
		h.log.Close() // reopened on what the kernel still shows
		return
	}
	h.disk = h.disk.Crash(h.rng)
}

func TestFailureIsNamed(t *testing.T) {
	disk := &journaltest.Disk{}
	l := fresh(t, disk, 0, 1)
	end := appendAll(t, l, links(3)...)
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	disk.SetFault(func(op journaltest.Op) error {
		if op.Kind == "write" {
			return syscall.ENOSPC
		}
		return nil
	})
	appendAll(t, l, links(3)...)
	if err := l.Sync(); !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, journal.ErrFailed) {
		t.Fatal(err)
	}
	disk.SetFault(nil)
	for name, err := range map[string]error{
		"sync":     l.Sync(),
		"truncate": l.TruncateTo(0),
		"raw":      l.AppendRaw(l.End().Offset, nil),
		"reset":    l.Reset(end),
		"free":     l.Free(0),
		"wait":     l.WaitFor(t.Context(), l.End().Offset),
		"set":      l.SetIncarnation(id(2)),
	} {
		if !errors.Is(err, journal.ErrFailed) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l.Durable() != end {
		t.Errorf("durable %+v, want %+v", l.Durable(), end)
	}
	if err := l.Close(); !errors.Is(err, journal.ErrFailed) {
		t.Error(err)
	}
	if l = open(t, disk, 0); l.End().Offset < end.Offset {
		t.Errorf("%+v, want at least %+v", l.End(), end)
	}
}
