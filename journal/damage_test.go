package journal_test

import (
	"bytes"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"repld/change"
	"repld/journal"
	"repld/journal/journaltest"
)

// small makes a log of several segments and incarnations.
func small(t *testing.T, closed bool) (files map[string][]byte, records []change.Record, offsets []uint64) {
	t.Helper()
	disk := &journaltest.Disk{}
	l := fresh(t, disk, 400, 1)
	appendAll(t, l, links(4)...)
	begin(t, l, 2)
	appendAll(t, l, unchained()...)
	records, offsets, err := readAll(l, 0) // flushes too
	if err != nil {
		t.Fatal(err)
	}
	offsets = append(offsets, l.End().Offset)
	if closed {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return disk.Contents(), records, offsets
}

func lastSegment(files map[string][]byte) string {
	return slices.MaxFunc(slices.Collect(maps.Keys(files)), func(a, b string) int {
		return strings.Compare(strings.TrimPrefix(a, journal.IncarnationsFile), strings.TrimPrefix(b, journal.IncarnationsFile))
	})
}

func with(files map[string][]byte, name string, b []byte) *journaltest.Disk {
	changed := maps.Clone(files)
	changed[name] = b
	return journaltest.FromContents(changed)
}

func try(disk *journaltest.Disk) (*journal.Log, error) {
	return journal.Open("memory", journal.Options{Disk: disk, SegmentSize: 400})
}

// A log that wasn't synced and is cut anywhere ends after its last whole record.
func TestTornTail(t *testing.T) {
	files, records, offsets := small(t, false)
	name := lastSegment(files)
	whole := files[name]
	base := offsets[len(offsets)-1] - uint64(len(whole)-journal.HeaderSize)
	for size := journal.HeaderSize; size <= len(whole); size++ {
		for _, tail := range [][]byte{nil, make([]byte, 100), []byte("garbage")} {
			disk := with(files, name, append(bytes.Clone(whole[:size]), tail...))
			l, err := try(disk)
			if err != nil {
				t.Fatalf("cut to %d bytes: %v", size, err)
			}
			n := 0
			for n+1 < len(offsets) && offsets[n+1] <= base+uint64(size-journal.HeaderSize) {
				n++
			}
			got, _, err := readAll(l, 0)
			if err != nil || l.End().Offset != offsets[n] || l.Durable() != l.End() || !reflect.DeepEqual(got, append([]change.Record(nil), records[:n]...)) {
				t.Fatalf("cut to %d bytes: ends at %d with %d records, want %d with %d: %v", size, l.End().Offset, len(got), offsets[n], n, err)
			}
			begin(t, l, 9)
			appendAll(t, l, links(1)...)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if l, err = try(disk); err != nil {
				t.Fatal(err)
			}
			if got, _, err := readAll(l, 0); err != nil || len(got) != n+1 {
				t.Fatalf("cut to %d bytes, then appended: %d records, want %d: %v", size, len(got), n+1, err)
			}
		}
	}
}

// What was synced is never cut off in silence.
func TestCutBehindMark(t *testing.T) {
	files, _, offsets := small(t, true)
	for name, whole := range files {
		if name == journal.IncarnationsFile {
			continue
		}
		for size := range len(whole) {
			_, err := try(with(files, name, whole[:size]))
			var damage *journal.DamageError
			if !errors.As(err, &damage) || !errors.Is(err, journal.ErrDamaged) || damage.Segment != name {
				t.Fatalf("%s cut to %d of %d bytes: %v", name, size, len(whole), err)
			}
			if size > journal.HeaderSize && (damage.Offset > offsets[len(offsets)-1]) {
				t.Fatalf("%s cut to %d bytes: damage at offset %d", name, size, damage.Offset)
			}
		}
	}
}

// Each bit of a closed log, flipped, is noticed when it is opened or read, or
// doesn't matter.
func TestBitFlips(t *testing.T) {
	files, want, _ := small(t, true)
	harmless := 0
	for name, whole := range files {
		for bit := range 8 * len(whole) {
			b := bytes.Clone(whole)
			b[bit/8] ^= 1 << (bit % 8)
			l, err := try(with(files, name, b))
			if err == nil {
				var got []change.Record
				got, _, err = readAll(l, 0)
				if err == nil && reflect.DeepEqual(got, want) {
					if bit/8 >= journal.HeaderSize && name != journal.IncarnationsFile {
						t.Fatalf("%s: bit %d flipped in a record and not noticed", name, bit)
					}
					harmless++
					continue
				}
			}
			if !errors.Is(err, journal.ErrDamaged) {
				t.Fatalf("%s: bit %d flipped: %v", name, bit, err)
			}
		}
	}
	t.Logf("%d flips in unused parts of headers, or made good", harmless)
}

func TestMissingSegment(t *testing.T) {
	files, _, _ := small(t, true)
	names := slices.Sorted(maps.Keys(files))
	changed := maps.Clone(files)
	delete(changed, names[1])
	if _, err := try(journaltest.FromContents(changed)); !errors.Is(err, journal.ErrDamaged) {
		t.Fatal(err)
	}
}

func TestOtherVersion(t *testing.T) {
	files, _, _ := small(t, true)
	name := lastSegment(files)
	b := bytes.Clone(files[name])
	b[8] = 9
	journal.SumHeader(b)
	if _, err := try(with(files, name, b)); !errors.Is(err, journal.ErrFormat) {
		t.Fatal(err)
	}
}

// The list of incarnations comes back from the segments.
func TestIncarnationsRederived(t *testing.T) {
	files, _, _ := small(t, true)
	l, err := try(journaltest.FromContents(files))
	if err != nil {
		t.Fatal(err)
	}
	want := l.Incarnations()
	if len(want) != 2 {
		t.Fatal(want)
	}
	for _, b := range [][]byte{nil, []byte("garbage"), files[journal.IncarnationsFile][:30]} {
		if l, err = try(with(files, journal.IncarnationsFile, b)); err != nil {
			t.Fatal(err)
		}
		if got := l.Incarnations(); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

// FuzzOpen: whatever stands in the last segment, Open either refuses it or gives a
// log that can be read and appended to.
func FuzzOpen(f *testing.F) {
	disk := &journaltest.Disk{}
	l := fresh(f, disk, 0, 1)
	appendAll(f, l, unchained()...)
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	files := disk.Contents()
	whole := files[lastSegment(files)]
	f.Add(whole, files[journal.IncarnationsFile])
	f.Add(whole[:journal.HeaderSize], []byte(nil))
	f.Add(whole[:700], []byte("repldinc"))
	f.Fuzz(func(t *testing.T, segment, incarnations []byte) {
		disk := journaltest.FromContents(map[string][]byte{
			"0000000000000000.log": segment, journal.IncarnationsFile: incarnations})
		l, err := try(disk)
		if err != nil {
			if !errors.Is(err, journal.ErrDamaged) && !errors.Is(err, journal.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		got, _, err := readAll(l, 0)
		if err != nil && !errors.Is(err, change.ErrMalformed) { // a checksum that fits a body that doesn't
			t.Fatal(err)
		}
		if err := l.SetIncarnation(id(77)); err != nil {
			t.Fatal(err)
		}
		at := l.End().Offset
		appendAll(t, l, links(1)...)
		if more, _, err := readAll(l, at); err != nil || len(more) != 1 {
			t.Fatal(len(got), len(more), err)
		}
	})
}
