package journal_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"
	"pgregory.net/rapid"

	"repld/change"
	"repld/journal"
)

// allRecords is at least one record of each type, with the ends of the ranges.
func allRecords() []change.Record {
	digest := change.Digest(blake3.Sum256([]byte("hello, hello")))
	return []change.Record{
		&change.Chunk{Digest: digest, Codec: change.CodecRaw, RawLen: 12, Data: []byte("hello, hello")},
		&change.Chunk{Digest: digest, Codec: change.CodecZstd, RawLen: change.ChunkMax, Data: []byte("x")},
		&change.Put{Node: 1, Kind: change.KindDir, Meta: change.Meta{Mode: 0o755, Mtime: change.Time{Sec: -1, Nsec: 999_999_999}}},
		&change.Put{Node: math.MaxUint64, Kind: change.KindSymlink, Meta: change.Meta{Mode: 0o7777, UID: math.MaxUint32,
			GID: math.MaxUint32, Mtime: change.Time{Sec: math.MinInt64}, Rdev: math.MaxUint64, Target: "\xff/..\n",
			Xattrs: []change.Xattr{{Name: "security.capability", Value: []byte{0, 1}}, {Name: "user.a", Value: []byte{}}}}},
		&change.Splice{Node: 2, At: 3, Remove: 4},
		&change.Splice{Node: 2, Refs: []change.ChunkRef{{Digest: digest, Length: 12}, {Length: 1 << 40}}},
		&change.Link{Parent: 0, Name: "tree", Node: 1},
		&change.Link{Parent: 1, Name: strings.Repeat("\xfe", change.NameMax), Node: 2},
		&change.Unlink{Parent: 1, Name: "new\nline"},
		&change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 3, Seq: 812}, CutAt: time.Unix(1_700_000_000, 5).UTC(),
			Tree: digest, Portable: digest, Files: 7, Bytes: 8, Rung: change.RungPolled, Stall: time.Second,
			Uncovered: []string{"tree/db", ""}}},
		&change.Barrier{},
	}
}

// withDatabases is a barrier with the part that the fixture of version 1 lacks.
func withDatabases() change.Record {
	return &change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 3, Seq: 813}, CutAt: time.Unix(1_700_000_001, 5).UTC(),
		Databases: databases}, Chain: change.Digest{1}}
}

var databases = []change.DatabasePosition{
	{Name: "app", Engine: change.EnginePostgres, Position: change.StreamPosition{Chapter: 1, Offset: 0x1A2B3C8}, Retain: change.StreamPosition{Chapter: 1, Offset: 0x1A00028}},
	{Name: "shop", Engine: change.EngineMariaDB, Position: change.StreamPosition{Chapter: math.MaxUint32, Offset: math.MaxUint64}},
}

// A barrier without databases is what it was before there were any: it ends with
// its chain, and the positions follow that.
func TestBarrierWithoutDatabases(t *testing.T) {
	b := &change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: 2}, Uncovered: []string{"tree/db"}}, Chain: change.Digest{9, 8, 7}}
	without, err := journal.AppendRecord(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(without, b.Chain[:]) {
		t.Errorf("without databases it ends with %x", without[len(without)-32:])
	}
	b.Databases = databases
	with, err := journal.AppendRecord(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(with[9:], append(without[9:], change.AppendDatabases(nil, databases)...)) {
		t.Errorf("with databases it is %x, without %x", with, without)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	var all []byte
	records := append(allRecords(), withDatabases())
	for _, rec := range records {
		var err error
		if all, err = journal.AppendRecord(all, rec); err != nil {
			t.Fatalf("%#v: %v", rec, err)
		}
	}
	rest := all
	for _, want := range records {
		got, n, err := journal.DecodeRecord(rest)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %#v\nwant %#v: %v", got, want, err)
		}
		if again, err := journal.AppendRecord(nil, got); err != nil || !bytes.Equal(again, rest[:n]) {
			t.Fatalf("%#v has two encodings: %v", want, err)
		}
		for cut := range n {
			if _, _, err := journal.DecodeRecord(rest[:cut]); err == nil {
				t.Fatalf("%#v: decoded from %d of %d bytes", want, cut, n)
			}
		}
		for bit := range 8 * n {
			b := bytes.Clone(rest[:n])
			b[bit/8] ^= 1 << (bit % 8)
			if _, _, err := journal.DecodeRecord(b); err == nil {
				t.Fatalf("%#v: bit %d flipped, not noticed", want, bit)
			}
		}
		rest = rest[n:]
	}
	if len(rest) != 0 {
		t.Fatalf("%d bytes left", len(rest))
	}
}

func TestRecordLimits(t *testing.T) {
	put := &change.Put{Node: 1, Kind: change.KindFile, Meta: change.Meta{}}
	for i := range 17 {
		put.Meta.Xattrs = append(put.Meta.Xattrs, change.Xattr{Name: "user." + string(rune('a'+i)), Value: make([]byte, 64<<10)})
	}
	if _, err := journal.AppendRecord(nil, put); !errors.Is(err, journal.ErrTooLong) {
		t.Errorf("17 xattrs of 64 KiB: %v", err)
	}
	put.Meta.Xattrs = put.Meta.Xattrs[:16]
	b, err := journal.AppendRecord(nil, put)
	if err != nil {
		t.Fatalf("16 xattrs of 64 KiB: %v", err)
	}
	if got, _, err := journal.DecodeRecord(b); err != nil || !reflect.DeepEqual(got, put) {
		t.Errorf("16 xattrs of 64 KiB: %v", err)
	}
	long := bytes.Clone(b)
	long[7] = 1 // 16 MiB more
	if _, _, err := journal.DecodeRecord(long); !errors.Is(err, journal.ErrTooLong) {
		t.Errorf("length of 16 MiB: %v", err)
	}
	for _, c := range []change.Chunk{
		{Codec: change.CodecRaw, RawLen: 3, Data: []byte("four")},
		{Codec: change.CodecZstd, RawLen: 4, Data: []byte("four")},
		{Codec: change.CodecRaw},
		{Codec: 0, RawLen: 4, Data: []byte("four")},
		{Codec: change.CodecRaw, RawLen: change.ChunkMax + 1, Data: make([]byte, change.ChunkMax+1)},
	} {
		if _, err := journal.AppendRecord(nil, &c); !errors.Is(err, change.ErrMalformed) {
			t.Errorf("codec %d, %d bytes in %d: %v", c.Codec, c.RawLen, len(c.Data), err)
		}
	}
}

// anyRecord generates records of every type, with small chunks.
func anyRecord() *rapid.Generator[change.Record] {
	return rapid.Custom(func(t *rapid.T) change.Record {
		node := func() change.NodeID { return change.NodeID(rapid.Uint64().Draw(t, "node")) }
		name := func() string {
			b := rapid.SliceOfN(rapid.ByteRange('a', 'z'), 1, 20).Draw(t, "name")
			return string(b)
		}
		digest := func() (d change.Digest) {
			copy(d[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
			d[0] |= 1
			return d
		}
		switch rapid.IntRange(0, 5).Draw(t, "type") {
		case 0:
			data := rapid.SliceOfN(rapid.Byte(), 1, 3000).Draw(t, "data")
			return &change.Chunk{Digest: blake3.Sum256(data), Codec: change.CodecRaw, RawLen: uint32(len(data)), Data: data}
		case 1:
			return &change.Put{Node: node(), Kind: change.Kind(rapid.IntRange(1, 6).Draw(t, "kind")),
				Meta: change.Meta{Mode: rapid.Uint32Range(0, 0o7777).Draw(t, "mode"), UID: rapid.Uint32().Draw(t, "uid"),
					Mtime:  change.Time{Sec: rapid.Int64().Draw(t, "sec"), Nsec: rapid.Uint32Range(0, 999_999_999).Draw(t, "nsec")},
					Target: rapid.StringN(0, 50, 100).Draw(t, "target")}}
		case 2:
			s := &change.Splice{Node: node(), At: rapid.Uint64Range(0, math.MaxInt64).Draw(t, "at")}
			for range rapid.IntRange(0, 20).Draw(t, "refs") {
				s.Refs = append(s.Refs, change.ChunkRef{Digest: digest(), Length: rapid.Uint64Range(1, change.ChunkMax).Draw(t, "length")})
			}
			return s
		case 3:
			return &change.Link{Parent: node(), Name: name(), Node: node()}
		case 4:
			return &change.Unlink{Parent: node(), Name: name()}
		default:
			at := func() change.StreamPosition {
				return change.StreamPosition{Chapter: rapid.Uint32().Draw(t, "chapter"), Offset: rapid.Uint64().Draw(t, "offset")}
			}
			b := &change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: rapid.Uint64().Draw(t, "seq")},
				CutAt: time.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "at"), 0).UTC(), Tree: digest(), Rung: change.RungOptimistic}}
			for i := range rapid.IntRange(0, 3).Draw(t, "databases") {
				b.Databases = append(b.Databases, change.DatabasePosition{Name: string(rune('a'+i)) + name(), Engine: name(), Position: at(), Retain: at()})
			}
			return b
		}
	})
}

func TestRecordRoundTripRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyRecord().Draw(t, "record")
		b, err := journal.AppendRecord(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		got, n, err := journal.DecodeRecord(b)
		if err != nil || n != len(b) || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %#v, %v", got, err)
		}
	})
}

// FuzzDecodeRecord: whatever decodes has exactly one encoding, and the length that
// it is said to have.
func FuzzDecodeRecord(f *testing.F) {
	for _, rec := range append(allRecords(), withDatabases()) {
		b, err := journal.AppendRecord(nil, rec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, n, err := journal.DecodeRecord(b)
		if err != nil {
			return
		}
		again, err := journal.AppendRecord(nil, rec)
		if err != nil || !bytes.Equal(again, b[:n]) {
			t.Fatalf("%#v: %v\n%x\n%x", rec, err, b[:n], again)
		}
	})
}

// FuzzDecodeBody is FuzzDecodeRecord behind the checksums, which a fuzzer can't guess.
func FuzzDecodeBody(f *testing.F) {
	for _, rec := range append(allRecords(), withDatabases()) {
		b, err := journal.AppendRecord(nil, rec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[8], b[9:])
	}
	f.Fuzz(func(t *testing.T, typ byte, body []byte) {
		b := journal.Seal(typ, body)
		rec, n, err := journal.DecodeRecord(b)
		if err != nil {
			if !errors.Is(err, change.ErrMalformed) && n != 0 {
				t.Fatal(err)
			}
			return
		}
		again, err := journal.AppendRecord(nil, rec)
		if err != nil || !bytes.Equal(again, b[:n]) {
			t.Fatalf("%#v: %v\n%x\n%x", rec, err, b[:n], again)
		}
	})
}
