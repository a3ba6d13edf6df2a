package binlog

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"repld/change"
)

// TestMessagesOfAnyLength cross packets: one of exactly the packet's length is followed
// by another.
func TestMessagesOfAnyLength(t *testing.T) {
	var wire bytes.Buffer
	m := messages{w: bufio.NewWriter(&wire)}
	lengths := []int{0, 1, 300, maxPacket - 1, maxPacket, maxPacket + 1}
	content := bytes.Repeat([]byte("0123456789"), maxPacket/10+2)
	for _, n := range lengths {
		must(t, m.write(content[:n]))
	}
	must(t, m.w.Flush())
	p := packets{r: bufio.NewReader(&wire)}
	for _, n := range lengths {
		b, err := p.message(2 * maxPacket)
		must(t, err)
		if !bytes.Equal(b, content[:n]) {
			t.Fatalf("a message of %d bytes became one of %d", n, len(b))
		}
	}
	if p.seq != 7 || wire.Len() > 0 {
		t.Errorf("the last packet has number %d, want 7; %d bytes are left", p.seq, wire.Len())
	}
	short := packets{r: bufio.NewReader(strings.NewReader("\x05\x00\x00\x00ab"))}
	if _, err := short.message(100); err != io.ErrUnexpectedEOF {
		t.Errorf("half a message: %v", err)
	}
	long := packets{r: bufio.NewReader(strings.NewReader("\x05\x00\x00\x00abcde"))}
	if _, err := long.message(4); err == nil {
		t.Error("a message that is too long was taken")
	}
	o, err := (&messages{w: bufio.NewWriter(&wire)}).begin(3)
	must(t, err)
	if _, err := o.Write([]byte("abcd")); err == nil {
		t.Error("more was written than was said")
	}
}

func TestStates(t *testing.T) {
	a, err := parseState(" 1-1-5,0-2-100 ")
	must(t, err)
	if got := a.String(); got != "0-2-100,1-1-5" {
		t.Errorf("the state is %q", got)
	}
	for text, want := range map[string]bool{
		"": true, "0-2-100": true, "0-1-99": true, "0-2-101": false, "2-1-1": false, "1-7-5,0-2-100": true,
	} {
		b, err := parseState(text)
		must(t, err)
		if got := b.within(a); got != want {
			t.Errorf("%q within %q: %v", b, a, got)
		}
	}
	for _, text := range []string{"1", "1-2", "1-2-3-4", "a-1-1", "0-1--1", "4294967296-1-1"} {
		if _, err := parseState(text); err == nil {
			t.Errorf("%q was taken for a state", text)
		}
	}
	for name, want := range map[string]uint32{"binlog.000042": 42, "/var/log/my.host-bin.1234567": 1234567, "binlog": 0, "binlog.x": 0, "b.000000": 0} {
		got, err := fileNumber(name)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q has number %d: %v", name, got, err)
		}
	}
}

func TestSupportedVersions(t *testing.T) {
	for version, want := range map[string]bool{
		"10.11.19-MariaDB-0+deb12u1-log": true, "11.4.2-MariaDB": true, "10.5.0-MariaDB": true, "10.4.30-MariaDB": false,
		"8.0.39": false, "8.0.39-debug": false, "": false, "MariaDB": false,
	} {
		if err := supported(version); (err == nil) != want {
			t.Errorf("%q: %v", version, err)
		}
	}
}

// description is a format description with checksums.
func description() []byte {
	b := make([]byte, eventHead+57+10+formatTail)
	b[4] = eventFormat
	binary.LittleEndian.PutUint32(b[5:], 7)
	binary.LittleEndian.PutUint32(b[9:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[13:], uint32(len(b))+fileHead)
	binary.LittleEndian.PutUint16(b[eventHead:], 4)
	copy(b[formatVersionAt:], "10.11.19-MariaDB")
	binary.LittleEndian.PutUint32(b[formatCreatedAt:], 12345)
	b[len(b)-formatTail] = checksumCRC32
	seal(b)
	return b
}

func TestEventsOfOurOwn(t *testing.T) {
	f, err := parseFormat(description())
	must(t, err)
	if f.server != 7 || f.version != "10.11.19-MariaDB" {
		t.Errorf("the format is %+v", f)
	}
	inner := f.inner(0)
	g, err := parseFormat(inner)
	must(t, err)
	if !f.same(g) || !sealed(inner) || bytes.Equal(inner, f.event) {
		t.Error("the description from within the file isn't the same file's")
	}
	other := description()
	binary.LittleEndian.PutUint32(other, 99)
	seal(other)
	if g, err = parseFormat(other); err != nil || f.same(g) {
		t.Errorf("another file's description is the same: %v", err)
	}
	r := f.rotate("binlog.000042", 4)
	h, err := parseHeader(r)
	must(t, err)
	body, err := f.body(r)
	must(t, err)
	if name, err := parseRotate(body); err != nil || name != "binlog.000042" || !h.artificial() || int(h.size) != len(r) || !sealed(r) {
		t.Errorf("rotate became %q, %+v, %v", name, h, err)
	}
	for n := range len(f.event) {
		if _, err := parseFormat(f.event[:n]); err == nil && n < formatCreatedAt+5+formatTail {
			t.Fatalf("%d bytes of a description were taken", n)
		}
	}
}

func FuzzEvents(f *testing.F) {
	f.Add(description())
	f.Fuzz(func(t *testing.T, b []byte) {
		// None of these may panic, or take more than there is.
		_, _ = parseFormat(b)
		_, _ = parseHeader(b)
		_, _ = parseGTIDList(b)
		_, _, _ = parseGTIDEvent(header{}, b)
		_, _ = parseRotate(b)
		_ = queryText(b)
		_ = sealed(b)
		_, _, _, _ = parseLogin(b)
		_ = parseError(b)
		_, _ = parseInfo(mariadbDialect{}, b)
		_, _ = parseInfo(mysqlDialect{}, b)
		_, _ = parseSetBytes(b)
		_, _, _ = parseMySQLGTID(b)
		_, _, _ = parseTaggedGTID(b)
	})
}

func TestGateStateSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	f, st, err := openGateFile(dir)
	must(t, err)
	if st != (gateState{}) {
		t.Fatalf("a new state is %+v", st)
	}
	s, err := parseState("0-1-17")
	must(t, err)
	want := gateState{Gate: place{at: change.StreamPosition{Chapter: 3, Offset: 9}, state: s}.stored(), Point: true}
	must(t, f.save(want))
	if err := f.save(gateState{Gate: storedPlace{GTID: strings.Repeat("0-1-1,", 4000)}}); err == nil {
		t.Error("a state that is too long was taken")
	}
	must(t, f.close())
	f, st, err = openGateFile(dir)
	must(t, err)
	must(t, f.close())
	if st != want {
		t.Fatalf("the state is %+v, want %+v", st, want)
	}
}
