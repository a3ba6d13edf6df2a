package gatefile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"repld/durable"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func damaged(err error) bool {
	var e *durable.DamageError
	return errors.As(err, &e) && strings.HasSuffix(e.Path, "gate")
}

// TestHeadFlipped flips each bit of what a file begins with: it is taken or damaged, and
// never said to be of another version. One that was made without a checksum is taken.
func TestHeadFlipped(t *testing.T) {
	for _, sum := range []bool{true, false} {
		o := Options{Path: filepath.Join(t.TempDir(), "gate"), Magic: "testgate", Version: 1, Empty: []byte("{}")}
		f, _, err := Open(o)
		must(t, err)
		must(t, f.Close())
		b, err := os.ReadFile(o.Path)
		must(t, err)
		if !sum {
			clear(b[MagicSize+4 : HeadSize])
		}
		if _, text, err := decode(b, o); err != nil || string(text) != "{}" {
			t.Fatalf("with a checksum %v: %q, %v", sum, text, err)
		}
		for bit := range 8 * HeadSize {
			flipped := bytes.Clone(b)
			flipped[bit/8] ^= 1 << (bit % 8)
			_, text, err := decode(flipped, o)
			if bit < 8*(MagicSize+4) && !damaged(err) || bit >= 8*(MagicSize+4) && (err != nil || string(text) != "{}") {
				t.Errorf("with a checksum %v, bit %d of byte %d: %q, %v", sum, bit%8, bit/8, text, err)
			}
		}
	}
}

func TestFileSurvivesATornWrite(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "gate"), Magic: "testgate", Version: 7, Empty: []byte("{}")}
	f, text, err := Open(o)
	must(t, err)
	if string(text) != "{}" {
		t.Fatalf("a new file holds %q", text)
	}
	for _, s := range []string{"one", "the second", "third"} {
		must(t, f.Save([]byte(s)))
	}
	must(t, f.Close())
	f, text, err = Open(o)
	must(t, err)
	if string(text) != "third" {
		t.Fatalf("it holds %q, want the third", text)
	}
	b, err := os.ReadFile(o.Path)
	must(t, err)
	newest := headSize + stateSize*int(f.number&1)
	for _, where := range []int{0, 9, 14} {
		torn := bytes.Clone(b)
		torn[newest+where] ^= 0x55
		if _, text, err = decode(torn, o); err != nil || string(text) != "the second" {
			t.Errorf("torn at %d: %q, %v", where, text, err)
		}
	}
	both := bytes.Clone(b)
	both[headSize+13] ^= 1
	both[headSize+stateSize+13] ^= 1
	if _, _, err := decode(both, o); !damaged(err) {
		t.Errorf("two torn states: %v", err)
	}
	for _, n := range []int{0, 8, headSize, len(b) - 1} {
		if _, _, err := decode(b[:n], o); !damaged(err) {
			t.Errorf("%d bytes of a file: %v", n, err)
		}
	}
	other := o
	other.Version++
	if _, _, err := Open(other); err == nil || damaged(err) || !strings.Contains(err.Error(), "version 7 of the gate's state, want 8") {
		t.Errorf("another version: %v", err)
	}
	if err := f.Save(make([]byte, MaxText+1)); err == nil {
		t.Error("a text that is too long was taken")
	}
	must(t, f.Save(bytes.Repeat([]byte{1}, MaxText)))
	must(t, f.Close())
}
