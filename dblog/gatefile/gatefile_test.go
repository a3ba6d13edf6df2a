package gatefile

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
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
	if _, _, err := decode(both, o); err == nil {
		t.Error("two torn states were taken")
	}
	for _, n := range []int{0, 8, headSize, len(b) - 1} {
		if _, _, err := decode(b[:n], o); err == nil {
			t.Errorf("%d bytes of a file were taken", n)
		}
	}
	other := o
	other.Version++
	if _, _, err := Open(other); err == nil || !strings.Contains(err.Error(), "version 7 of the gate's state, want 8") {
		t.Errorf("another version: %v", err)
	}
	if err := f.Save(make([]byte, MaxText+1)); err == nil {
		t.Error("a text that is too long was taken")
	}
	must(t, f.Save(bytes.Repeat([]byte{1}, MaxText)))
	must(t, f.Close())
}
