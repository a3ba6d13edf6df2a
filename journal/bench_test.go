package journal_test

import (
	"io"
	"testing"

	"repld/change"
	"repld/journal"
)

func bench(b *testing.B) *journal.Log {
	b.Helper()
	l, err := journal.Open(b.TempDir(), journal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	begin(b, l, 1)
	return l
}

// benchRecords are what a log mostly consists of: chunks, and small files' metadata.
func benchRecords() map[string]change.Record {
	data := samples(64 << 10)["random"]
	return map[string]change.Record{
		"chunk64k": &change.Chunk{Digest: change.Digest{1}, Codec: change.CodecRaw, RawLen: uint32(len(data)), Data: data},
		"put": &change.Put{Node: 123456, Kind: change.KindFile, Meta: change.Meta{Mode: 0o644, UID: 1000, GID: 1000,
			Mtime: change.Time{Sec: 1_700_000_000, Nsec: 123_456_789}}},
	}
}

// keep bounds how much of the log stays on disk while a benchmark appends.
const keep = 512 << 20

func size(b *testing.B, rec change.Record) int64 {
	b.Helper()
	raw, err := journal.AppendRecord(nil, rec)
	if err != nil {
		b.Fatal(err)
	}
	return int64(len(raw))
}

func BenchmarkAppend(b *testing.B) {
	for name, rec := range benchRecords() {
		b.Run(name, func(b *testing.B) {
			l := bench(b)
			b.SetBytes(size(b, rec))
			b.ReportAllocs()
			for b.Loop() {
				end, err := l.Append(rec)
				if err != nil {
					b.Fatal(err)
				}
				if l.Bytes() > keep {
					if err := l.Free(end.Offset); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// filled returns a log of some 64 MiB of rec.
func filled(b *testing.B, rec change.Record) *journal.Log {
	b.Helper()
	l := bench(b)
	for l.End().Offset < 64<<20 {
		if _, err := l.Append(rec); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

func BenchmarkRead(b *testing.B) {
	for name, rec := range benchRecords() {
		b.Run(name, func(b *testing.B) {
			l := filled(b, rec)
			r, err := l.Reader(0)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size(b, rec))
			b.ReportAllocs()
			for b.Loop() {
				_, _, err := r.Next()
				if err == io.EOF {
					r, err = l.Reader(0)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAppendRaw: one operation is a block of 1 MiB.
func BenchmarkAppendRaw(b *testing.B) {
	for name, rec := range benchRecords() {
		b.Run(name, func(b *testing.B) {
			from := filled(b, rec)
			l := bench(b)
			block := make([]byte, 1<<20)
			b.SetBytes(int64(len(block)))
			b.ReportAllocs()
			var at uint64
			for b.Loop() {
				n, err := from.ReadBlock(block, at)
				if err != nil || n < len(block) {
					at = 0
					if err := l.Reset(change.LogPosition{Incarnation: id(1)}); err != nil {
						b.Fatal(err)
					}
					continue
				}
				if err := l.AppendRaw(at, block); err != nil {
					b.Fatal(err)
				}
				at += uint64(n)
			}
		})
	}
}

func BenchmarkPositionAt(b *testing.B) {
	for name, rec := range benchRecords() {
		b.Run(name, func(b *testing.B) {
			l := filled(b, rec)
			n := uint64(size(b, rec))
			at := l.End().Offset / n
			for b.Loop() {
				at = (at*7 + 13) % (l.End().Offset / n)
				if _, err := l.PositionAt(at * n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for name, rec := range benchRecords() {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			l, err := journal.Open(dir, journal.Options{})
			if err != nil {
				b.Fatal(err)
			}
			begin(b, l, 1)
			for l.End().Offset < 60<<20 {
				if _, err := l.Append(rec); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
				if l, err = journal.Open(dir, journal.Options{}); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(60 << 20)
			l.Close()
		})
	}
}
