package apply

import (
	"bytes"
	"testing"

	"repld/change"
)

// FuzzDecode: what stands in the scratch file comes back as it was written, and
// damage is an error, not a panic.
func FuzzDecode(f *testing.F) {
	o := operation{action: actMove, tree: 3, again: true, node: 7, occupant: 8, parent: 9, path: "a/b\xff\n"}
	s := staged{how: stagedRedo, tree: 1, want: change.Digest{1}, meta: change.Digest{2}, id: change.ObjectID{Ino: 3, Birth: change.Time{Sec: -4, Nsec: 5}}}
	c := commit{phase: phaseMerge, seed: true, repair: true, point: point{id: change.BarrierID{Epoch: 1, Seq: 2}, end: change.LogPosition{Offset: 3}}}
	t := redoTable{size: 100, ranges: []redoRange{{off: 1, length: 2}, {off: 50, length: 50, hole: true}}}
	f.Add(o.encode())
	f.Add(s.encode())
	f.Add(c.encode())
	f.Add(t.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := decodeOperation(b); err == nil && !bytes.Equal(o.encode(), b) {
			t.Errorf("operation %x became %x", b, o.encode())
		}
		if s, err := decodeStaged(b); err == nil && !bytes.Equal(s.encode(), b) {
			t.Errorf("staged %x became %x", b, s.encode())
		}
		if c, err := decodeCommit(b); err == nil && len(b) != len(c.encode()) && len(b) != 2+pointSize {
			t.Errorf("commit %x became %x", b, c.encode())
		}
		if r, err := readRedo(bytes.NewReader(b)); err == nil {
			for _, one := range r.ranges {
				if one.off+one.length > r.size {
					t.Errorf("range %+v in a file of %d bytes", one, r.size)
				}
			}
		}
		if len(b) > 13 {
			if got, err := decodeTouched(b[:13], b[13:]); err == nil && got.class != b[0] {
				t.Errorf("touched %x became %+v", b, got)
			}
		}
	})
}

func TestDecodeRoundTrip(t *testing.T) {
	o := operation{action: actLink, tree: 2, node: 1 << 62, occupant: 5, parent: 6, path: ""}
	if got, err := decodeOperation(o.encode()); err != nil || got != o {
		t.Errorf("got %+v, %v", got, err)
	}
	s := staged{how: stagedFull, tree: 9, want: change.Digest{1, 2}, meta: change.Digest{3}, id: change.ObjectID{Ino: 1, Birth: change.Time{Sec: -1, Nsec: 2}}}
	if got, err := decodeStaged(s.encode()); err != nil || got != s {
		t.Errorf("got %+v, %v", got, err)
	}
	c := commit{phase: phasePublish, repair: true, point: point{id: change.BarrierID{Epoch: 3, Seq: 4}, end: change.LogPosition{Incarnation: change.IncarnationID{5}, Offset: 6, Chain: change.Digest{7}}}}
	if got, err := decodeCommit(c.encode()); err != nil || *got != c {
		t.Errorf("got %+v, %v", got, err)
	}
	c.repair, c.travel, c.step = false, true, 77
	if got, err := decodeCommit(c.encode()); err != nil || *got != c {
		t.Errorf("got %+v, %v", got, err)
	}
	c.travel, c.step = false, 0 // as versions before the history wrote it
	if got, err := decodeCommit(c.encode()[:2+pointSize]); err != nil || *got != c {
		t.Errorf("got %+v, %v", got, err)
	}
	table := redoTable{size: 99, ranges: []redoRange{{off: 1, length: 2}, {off: 5, length: 94, hole: true}}}
	got, err := readRedo(bytes.NewReader(table.encode()))
	if err != nil || got.size != table.size || len(got.ranges) != 2 || got.ranges[1] != table.ranges[1] {
		t.Errorf("got %+v, %v", got, err)
	}
}
