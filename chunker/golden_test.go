package chunker

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
)

// pseudo returns n bytes of SplitMix64, which no library can change under us.
func pseudo(seed uint64, n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		b = binary.LittleEndian.AppendUint64(b, z^z>>31)
	}
	return b[:n]
}

// prose returns n bytes of lines that repeat with small differences.
func prose(n int) []byte {
	var b bytes.Buffer
	for i := uint64(0); b.Len() < n; i++ {
		r := binary.LittleEndian.Uint64(pseudo(i, 8))
		fmt.Fprintf(&b, "%012d host-%02d GET /items/%d 200 %d\n", 1700000000000+i*17, r%20, r>>8%10000, r>>32%5000)
	}
	return b.Bytes()[:n]
}

// padded returns n bytes of random pieces of up to 8 KiB with zeros up to twice
// that between them, as in an image of a disk.
func padded(n int) []byte {
	b := pseudo(9, n)
	for i := uint64(0); i < uint64(n); {
		r := binary.LittleEndian.Uint64(pseudo(i, 8))
		i += r % 8192
		z := min(i+r>>20%16384, uint64(n))
		if i < z {
			clear(b[i:z])
		}
		i = z
	}
	return b
}

// ends chunks data in memory.
func ends(t tester, o Options, data []byte) Ends {
	t.Helper()
	c := New(bytes.NewReader(data), o)
	var e Ends
	var at int64
	for chunk := range chunks(t, c) {
		at += int64(len(chunk))
		e = append(e, at)
	}
	return e
}

// TestGolden holds the boundaries still over platforms, Go versions and changes of
// this package. A difference is a new format: everything stored before would be
// chunked differently from now on.
func TestGolden(t *testing.T) {
	small := Options{Min: 100, Avg: 1000, Max: 5000}
	for _, c := range []struct {
		name  string
		data  []byte
		opt   Options
		first []int64 // some of the ends
		count int
		sum   string // SHA-256 of all ends, eight bytes each, little endian
	}{
		{"random", pseudo(1, 16<<20), Options{}, goldenRandom, 258, "48ec0d977346e08e8549dd117810afde97b83113f95bdd066f0dbb7a69c60ead"},
		{"prose", prose(8 << 20), Options{}, nil, 133, "e0392108ce0c01634f2a018ea84f0d7345481e6f5afe133db643e652517d44ba"},
		{"padded", padded(8 << 20), Options{}, nil, 119, "8cf8bbaaa9183d5087725d1c15a365625d33d9df7bb59b149b73219d0749fe03"},
		{"zeros", make([]byte, 1<<20+1), Options{}, nil, 5, "78a6afc6f0a0ab929753a174b5c35fb17897e33018fff663ab17785af6245066"},
		{"small chunks", pseudo(2, 1<<20), small, nil, 1034, "a995eac40a2a886d0106e5b09285c93be4b31a56559ea2271134378092c7eb2e"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ends(t, c.opt, c.data)
			h := sha256.New()
			for _, e := range got {
				h.Write(binary.LittleEndian.AppendUint64(nil, uint64(e)))
			}
			sum := hex.EncodeToString(h.Sum(nil))
			if len(got) != c.count || sum != c.sum {
				t.Errorf("%d chunks, digest of the ends %s: want %d, %s", len(got), sum, c.count, c.sum)
			}
			if c.first != nil && !slices.Equal(got[:len(c.first)], c.first) {
				t.Errorf("first ends %d: want %d", got[:len(c.first)], c.first)
			}
		})
	}
}

// The first ends of the random data, to see at a glance what a port does.
var goldenRandom = []int64{65835, 121272, 192102, 285507, 302059, 376091, 437645, 455443}
