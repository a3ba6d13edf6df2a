package journal

import (
	"io"
	"testing"

	"repld/change"
)

func TestAppendAndReopen(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetIncarnation(change.NewIncarnation()); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if _, err := l.Append(&change.Link{Parent: 0, Name: "a", Node: change.NodeID(i)}); err != nil {
			t.Fatal(err)
		}
	}
	end := l.End()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	if l.End() != end {
		t.Fatalf("end %+v, want %+v", l.End(), end)
	}
	r, err := l.Reader(0)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		_, at, err := r.Next()
		if err == io.EOF {
			if n != 10 {
				t.Fatal(n)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if pos, err := l.PositionAt(at); err != nil || pos.Offset != at {
			t.Fatal(pos, err)
		}
	}
}
