package journal_test

import (
	"bytes"
	"errors"
	"testing"

	"repld/change"
	"repld/journal"
	"repld/journal/journaltest"
)

func TestAppendRaw(t *testing.T) {
	sender := fresh(t, &journaltest.Disk{}, 0, 1)
	end := appendAll(t, sender, append(links(5), unchained()...)...)
	all := raw(t, sender)
	for size := 1; size <= len(all); size += 1 + size/8 {
		l := fresh(t, &journaltest.Disk{}, 600, 1)
		for at := 0; at < len(all); at += size {
			if err := l.AppendRaw(uint64(at), all[at:min(at+size, len(all))]); err != nil {
				t.Fatalf("blocks of %d: %v", size, err)
			}
			if got := l.End().Offset; got > uint64(at+size) {
				t.Fatal(got)
			}
		}
		if l.End() != end {
			t.Fatalf("blocks of %d: %+v, want %+v", size, l.End(), end)
		}
		if !bytes.Equal(raw(t, l), all) {
			t.Fatal("other bytes")
		}
	}
}

func TestAppendRawContiguous(t *testing.T) {
	sender := fresh(t, &journaltest.Disk{}, 0, 1)
	appendAll(t, sender, links(5)...)
	all := raw(t, sender)
	l := open(t, &journaltest.Disk{}, 0)
	if err := l.AppendRaw(0, all); !errors.Is(err, journal.ErrIncarnation) {
		t.Fatal(err)
	}
	begin(t, l, 1)
	if err := l.AppendRaw(0, all[:40]); err != nil {
		t.Fatal(err)
	}
	end := l.End().Offset
	if end == 0 || end >= 40 {
		t.Fatal(end)
	}
	for _, at := range []uint64{0, end - 1, end + 1, 39, 41, 1 << 40} {
		if err := l.AppendRaw(at, all[40:]); !errors.Is(err, journal.ErrNotContiguous) {
			t.Fatalf("at %d: %v", at, err)
		}
	}
	// The start of a record is dropped when the sender begins it anew.
	if err := l.AppendRaw(end, all[end:end+3]); err != nil {
		t.Fatal(err)
	}
	if err := l.AppendRaw(end+3, all[end+3:]); err != nil {
		t.Fatal(err)
	}
	if l.End() != sender.End() {
		t.Fatal(l.End())
	}
}

func TestAppendRawRefuses(t *testing.T) {
	sender := fresh(t, &journaltest.Disk{}, 0, 1)
	appendAll(t, sender, links(2)...)
	good := raw(t, sender)
	chained, err := journal.AppendRecord(nil, &change.Barrier{})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"type 0":          journal.Seal(0, []byte("abc")),
		"type 7":          journal.Seal(7, []byte("abc")),
		"malformed body":  journal.Seal(byte(journal.TypeLink), []byte("abc")),
		"escaping name":   journal.Seal(byte(journal.TypeUnlink), []byte("\x01\x02..")),
		"empty chunk":     journal.Seal(byte(journal.TypeChunk), make([]byte, 41)),
		"chunk of zeros":  journal.Seal(byte(journal.TypeChunk), make([]byte, 60)),
		"foreign barrier": chained,
		"too long":        {0, 0, 0, 0, 0, 0, 0, 1, byte(journal.TypePut)},
		"checksum":        append([]byte{good[0] ^ 1}, good[1:]...),
	} {
		for _, step := range []int{1, 1000} {
			l := fresh(t, &journaltest.Disk{}, 0, 1)
			if err := l.AppendRaw(0, good); err != nil {
				t.Fatal(err)
			}
			var err error
			for at := 0; at < len(bad) && err == nil; at += step {
				err = l.AppendRaw(uint64(len(good)+at), bad[at:min(len(bad), at+step)])
			}
			if !errors.Is(err, change.ErrMalformed) {
				t.Errorf("%s in steps of %d: %v", name, step, err)
			}
			if l.End() != sender.End() {
				t.Errorf("%s: the log ends at %+v", name, l.End())
			}
			if err := l.AppendRaw(uint64(len(good)), good); err != nil {
				t.Errorf("%s: after the refusal: %v", name, err)
			}
		}
	}
}

// FuzzAppendRaw: whatever is accepted reads back the same, and a prefix of the
// input; the log is whole.
func FuzzAppendRaw(f *testing.F) {
	sender := fresh(f, &journaltest.Disk{}, 0, 1)
	appendAll(f, sender, unchained()...)
	all := raw(f, sender)
	f.Add(all, uint16(7))
	f.Add(all[:100], uint16(50))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		disk := &journaltest.Disk{}
		l := fresh(t, disk, 500, 1)
		first := min(int(cut), len(b))
		err := l.AppendRaw(0, b[:first])
		if err == nil {
			err = l.AppendRaw(uint64(first), b[first:])
		}
		if err != nil && !errors.Is(err, change.ErrMalformed) {
			t.Fatal(err)
		}
		got := raw(t, l)
		if !bytes.HasPrefix(b, got) {
			t.Fatal("not what was appended")
		}
		if _, _, err := readAll(l, 0); err != nil {
			t.Fatal(err)
		}
		end := l.End()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if again := open(t, disk, 500); again.End() != end {
			t.Fatalf("%+v, want %+v", again.End(), end)
		}
	})
}
