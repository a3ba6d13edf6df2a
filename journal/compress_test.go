package journal_test

import (
	"bytes"
	"compress/flate"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"repld/change"
	"repld/journal"
)

// samples are chunks of kinds of data that are met in trees.
func samples(n int) map[string][]byte {
	rng := rand.NewChaCha8([32]byte{1})
	random := make([]byte, n)
	rng.Read(random)
	text := bytes.Repeat(sourceText(), 1+n/len(sourceText()))[:n]
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, 6)
	for r := rand.New(rand.NewPCG(1, 2)); packed.Len() < n; {
		at := r.IntN(len(text) - 100)
		w.Write(text[at : at+100])
		w.Write([]byte{byte(r.Uint32()), byte(r.Uint32())})
	}
	hex := make([]byte, n)
	for i := range hex {
		hex[i] = "0123456789abcdef"[random[i]&15]
	}
	half := bytes.Clone(random)
	clear(half[n/2:])
	return map[string][]byte{"random": random, "text": text, "deflated": packed.Bytes()[:n], "hex": hex,
		"zeros": make([]byte, n), "half": half, "repeated": bytes.Repeat(random[:n/8], 8)}
}

// sourceText is this package's own source.
func sourceText() []byte {
	var all []byte
	for _, name := range []string{"log.go", "append.go", "cut.go", "reader.go", "record.go", "segment.go"} {
		b, err := os.ReadFile(name)
		if err != nil {
			panic(err)
		}
		all = append(all, b...)
	}
	return all
}

func TestCompressRoundTrip(t *testing.T) {
	shrinks := map[string]bool{"text": true, "hex": true, "zeros": true, "half": true}
	for _, n := range []int{1000, 16 << 10, 64 << 10, change.ChunkMax} {
		for name, data := range samples(n) {
			codec, stored := journal.EncodeChunk(nil, data)
			c := &change.Chunk{Digest: blake3.Sum256(data), Codec: codec, RawLen: uint32(len(data)), Data: stored}
			got, err := journal.DecodeChunk(nil, c)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s %d: %v", name, n, err)
			}
			if shrinks[name] != (codec == change.CodecZstd) && name != "repeated" {
				t.Errorf("%s %d: codec %d, %d bytes", name, n, codec, len(stored))
			}
		}
	}
}

func TestDecodeChunkLimits(t *testing.T) {
	data := make([]byte, change.ChunkMax)
	codec, stored := journal.EncodeChunk(nil, data)
	good := change.Chunk{Digest: blake3.Sum256(data), Codec: codec, RawLen: uint32(len(data)), Data: stored}
	for name, spoil := range map[string]func(c *change.Chunk){
		"declared too short": func(c *change.Chunk) { c.RawLen-- },
		"declared too long":  func(c *change.Chunk) { c.RawLen = change.ChunkMax + 1 },
		"nothing declared":   func(c *change.Chunk) { c.RawLen = 0 },
		"other digest":       func(c *change.Chunk) { c.Digest[0] ^= 1 },
		"other codec":        func(c *change.Chunk) { c.Codec = 3 },
		"cut off":            func(c *change.Chunk) { c.Data = c.Data[:len(c.Data)-1] },
		"empty":              func(c *change.Chunk) { c.Data = nil },
	} {
		c := good
		spoil(&c)
		if _, err := journal.DecodeChunk(nil, &c); !errors.Is(err, change.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A bomb: a frame of 64 MiB declared as 1 KiB takes no more memory than that.
	bomb := change.Chunk{Codec: change.CodecZstd, RawLen: 100 << 10, Data: zeroFrame(64 << 20)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := journal.DecodeChunk(nil, &bomb); !errors.Is(err, change.ErrMalformed) {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("took %d bytes", grown)
	}
}

func BenchmarkEncodeChunk(b *testing.B) {
	for name, data := range samples(64 << 10) {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, len(data)*2)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			var n int
			for b.Loop() {
				_, stored := journal.EncodeChunk(dst, data)
				n = len(stored)
			}
			b.ReportMetric(float64(n)/float64(len(data)), "ratio")
		})
	}
}

func BenchmarkDecodeChunk(b *testing.B) {
	for name, data := range samples(64 << 10) {
		b.Run(name, func(b *testing.B) {
			codec, stored := journal.EncodeChunk(nil, data)
			c := &change.Chunk{Digest: blake3.Sum256(data), Codec: codec, RawLen: uint32(len(data)), Data: stored}
			dst := make([]byte, 0, len(data))
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := journal.DecodeChunk(dst, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// zeroFrame returns a zstd frame of n zeros.
func zeroFrame(n int) []byte {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return enc.EncodeAll(make([]byte, n), nil)
}
