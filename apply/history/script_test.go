package history

import (
	"math/rand/v2"
	"slices"
	"testing"

	"repld/change"
)

// expand returns the list that segments stand for, in the terms of later.
func expand(list []Segment, later []change.ChunkRef) (out []change.ChunkRef) {
	for _, s := range list {
		if s.Count > 0 {
			out = append(out, later[s.At:s.At+s.Count]...)
		} else {
			out = append(out, s.Refs...)
		}
	}
	return out
}

func ref(n uint64) change.ChunkRef {
	r := change.ChunkRef{Length: 1 + n%100}
	if n%7 > 0 {
		r.Digest = change.Digest{byte(n), byte(n >> 8), 1}
	}
	return r
}

// script makes an earlier list out of a later one, in random pieces.
func script(r *rand.Rand, later []change.ChunkRef, file uint64) (list []Segment) {
	at := uint64(0)
	for n := uint64(len(later)); at < n || r.IntN(3) == 0; {
		switch r.IntN(3) {
		case 0:
			if at < n {
				k := 1 + r.Uint64N(min(n-at, 5))
				list = append(list, Segment{At: at, Count: k})
				at += k
			}
		case 1:
			at += min(r.Uint64N(4), n-at)
		case 2:
			s := Segment{File: File{Kind: KeptPack, Step: file, Tree: 3}, Offset: r.Uint64N(1000)}
			for range 1 + r.IntN(4) {
				s.Refs = append(s.Refs, ref(r.Uint64N(60000)))
			}
			list = append(list, s)
		}
	}
	return list
}

// TestCompose: a list in the terms of a list in the terms of a third one is the
// same as both one after the other, its data stays where it was, and what isn't in
// it any more is dropped.
func TestCompose(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		var last []change.ChunkRef
		for range r.IntN(12) {
			last = append(last, ref(r.Uint64N(60000)))
		}
		newer := script(r, last, 2)
		middle := expand(newer, last)
		older := script(r, middle, 1)
		out, dropped := compose(older, newer)
		if got, want := expand(out, last), expand(older, middle); !slices.Equal(got, want) {
			t.Fatalf("older %v\nnewer %v\ngot %v", older, newer, out)
		}
		// Each reference of newer's own is in out or dropped, with its place.
		places := map[uint64]int{}
		note := func(list []Segment, by int) {
			for _, s := range list {
				at := s.Offset
				for _, one := range s.Refs {
					if s.File.Step == 2 && !one.Hole() {
						places[at<<20|one.Length] += by
					}
					at += s.File.room(one)
				}
			}
		}
		note(newer, 1)
		note(out, -1)
		note(dropped, -1)
		for at, n := range places {
			if n != 0 {
				t.Fatalf("place %x is counted %d times too often\nolder %v\nnewer %v\nout %v\ndropped %v", at, n, older, newer, out, dropped)
			}
		}
		var b []byte
		for i := range out {
			b = out[i].append(b)
		}
		back, err := decodeSegments(b)
		if err != nil || !slices.Equal(expand(back, last), expand(out, last)) {
			t.Fatalf("%v became %v, %v", out, back, err)
		}
	}
}

// FuzzDecode: damaged values are errors, never panics.
func FuzzDecode(f *testing.F) {
	f.Add((&Segment{At: 3, Count: 4}).append(nil))
	f.Add((&Segment{Refs: []change.ChunkRef{ref(1), ref(7)}, File: File{Kind: KeptWhole, Step: 5, Node: 6}, Offset: 8}).append(nil))
	f.Add((&entry{kind: change.KindFile, content: true, size: 9, refs: 1, meta: change.AppendMeta(nil, &change.Meta{Mode: 0o644})}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, err := decodeSegments(b); err == nil {
			var again []byte
			for i := range list {
				again = list[i].append(again)
			}
			if back, err := decodeSegments(again); err != nil || len(back) != len(list) {
				t.Errorf("%v became %v, %v", list, back, err)
			}
		}
		if e, err := decodeEntry(b); err == nil {
			_, _ = e.node()
		}
		if _, err := decodeStep(make([]byte, 8), b); err == nil && len(b) < 9 {
			t.Error("a step of nothing")
		}
	})
}
