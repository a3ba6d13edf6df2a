package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"
	"testing"

	"repld/change"
	"repld/journal/journaltest"
)

// TestHurry fills a spool faster than it is read: the frames are compressed quickly until
// enough of them wait, and again once they were read.
func TestHurry(t *testing.T) {
	rng := seeded(t)
	s, b := open(t, Options{Volatile: true}), open(t, Options{})
	must(t, s.Begin(Chapter{Number: 1}))
	f, ctx, stop := filling(t, s)
	defer stop()
	const piece, all = 128 << 10, 12 << 20
	want := stream(rng, all)
	fill := func(from, to int) {
		t.Helper()
		for ; from < to; from += piece {
			must(t, f.Append(ctx, pos(1, uint64(from)), want[from:from+piece]))
			must(t, f.Flush(ctx))
		}
	}
	// read returns the kinds of the frames from an offset on, and how long those of S2 are.
	read := func(at change.StreamPosition) (kinds []uint8, quick int64) {
		t.Helper()
		buf := make([]byte, 2*MaxFrame)
		for at != s.End() {
			n, next, err := s.ReadRaw(buf, at)
			must(t, err)
			must(t, b.AppendRaw(buf[:n]))
			for block := buf[:n]; len(block) > 0; {
				h, _, err := checkFrame(block)
				must(t, err)
				if h.kind == kindS2 {
					quick += h.size()
				}
				if h.kind != kindChapter {
					kinds = append(kinds, h.kind)
				}
				block = block[h.size():]
			}
			at = next
		}
		return kinds, quick
	}
	must(t, f.Append(ctx, pos(1, 0), want[:1])) // at once
	fill(1, 1+11<<20)
	kinds, quick := read(change.StreamPosition{})
	first := 1 + slices.Index(kinds[1:], kindZstd)
	if first == 0 || slices.Contains(kinds[1:first], kindPlain) || slices.Contains(kinds[first:], kindS2) || quick < hurryUpTo-1000 || quick > hurryUpTo+MaxFrame {
		t.Fatalf("%d bytes of frames are of S2, and all kinds %v", quick, kinds)
	}
	from := s.End()
	fill(int(from.Offset), int(from.Offset)+4*piece)
	if kinds, _ := read(from); !slices.Equal(kinds, []uint8{kindS2, kindS2, kindS2, kindS2}) {
		t.Fatalf("frames of kinds %v after all was read", kinds)
	}
	if !bytes.Equal(content(t, b, 1, 0), want[:s.End().Offset]) {
		t.Fatal("the mirror doesn't hold what was appended")
	}
}

// TestBlocksOfS2ThatAreBroken gives frames whose checksum is right and whose payload isn't.
func TestBlocksOfS2ThatAreBroken(t *testing.T) {
	plain := bytes.Repeat([]byte("abc"), 1000)
	good := dataFrame(nil, pos(1, 0), plain, true)
	h, payload, err := checkFrame(good)
	must(t, err)
	if h.kind != kindS2 {
		t.Fatalf("a frame of kind %d", h.kind)
	}
	for _, c := range []struct {
		name    string
		plain   uint32
		payload []byte
	}{
		{"shorter", h.plain - 1, payload}, {"longer", h.plain + 1, payload}, {"cut", h.plain, payload[:len(payload)-1]},
		{"no length", h.plain, []byte{0xff}}, {"a length beyond all bounds", h.plain, []byte{0xff, 0xff, 0xff, 0xff, 0x7f}},
		{"zstd", h.plain, dataFrame(nil, pos(1, 0), plain, false)[frameHead:]},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, Options{Volatile: true})
			must(t, s.Begin(Chapter{Number: 1}))
			bad := h
			bad.plain = c.plain
			wantErr(t, s.AppendRaw(appendFrame(nil, bad, c.payload)), ErrMalformed)
			if !s.End().IsZero() {
				t.Fatalf("the spool ends at %v", s.End())
			}
			must(t, s.AppendRaw(good))
		})
	}
}

// TestFormerVersion goes on with what version 1 wrote, in a segment of its own.
func TestFormerVersion(t *testing.T) {
	disk := &journaltest.Disk{}
	s, err := Open("", Options{Disk: disk})
	must(t, err)
	want := bytes.Repeat([]byte("abcd"), 100)
	must(t, s.Begin(Chapter{Number: 1, Info: []byte("info")}))
	must(t, s.Append(pos(1, 10), want))
	must(t, s.Close())
	files := maps.Clone(disk.Contents())
	old := files[segmentName(1)]
	binary.LittleEndian.PutUint16(old[8:], 1)
	binary.LittleEndian.PutUint32(old[60:], crc32.Checksum(old[:60], castagnoli))
	old = bytes.Clone(old)

	disk = journaltest.FromContents(files)
	s, err = Open("", Options{Disk: disk})
	must(t, err)
	if s.Start() != pos(1, 10) || s.Durable() != pos(1, 410) {
		t.Fatalf("version 1 is read as %v to %v", s.Start(), s.Durable())
	}
	must(t, s.AppendRaw(dataFrame(nil, s.End(), want, true)))
	must(t, s.Close())
	files = disk.Contents()
	if !bytes.Equal(files[segmentName(1)], old) || files[segmentName(2)][8] != FormatVersion {
		t.Fatalf("segment 1 is %x, was %x; segment 2 is %x", files[segmentName(1)], old, files[segmentName(2)])
	}
	s, err = Open("", Options{Disk: disk})
	must(t, err)
	if got := content(t, s, 1, 10); !bytes.Equal(got, append(want, want...)) {
		t.Fatalf("read %q", got)
	}
}

// TestHeaderFlipped flips each bit of a segment's header: that is damage, for which there
// is a way out, and no other version, for which there is none.
func TestHeaderFlipped(t *testing.T) {
	disk := &journaltest.Disk{}
	s, err := Open("", Options{Disk: disk})
	must(t, err)
	must(t, s.Begin(Chapter{Number: 1, Info: []byte("info")}))
	must(t, s.Append(pos(1, 10), []byte("some")))
	must(t, s.Close())
	files := maps.Clone(disk.Contents())
	whole := files[segmentName(1)]
	for bit := range 8 * headerSize {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		files[segmentName(1)] = b
		_, err := Open("", Options{Disk: journaltest.FromContents(files)})
		wantErr(t, err, ErrDamaged)
	}
	later := bytes.Clone(whole)
	binary.LittleEndian.PutUint16(later[8:], FormatVersion+1)
	binary.LittleEndian.PutUint32(later[60:], crc32.Checksum(later[:60], castagnoli))
	files[segmentName(1)] = later
	_, err = Open("", Options{Disk: journaltest.FromContents(files)})
	wantErr(t, err, ErrFormat)
}
