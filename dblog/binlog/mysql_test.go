package binlog

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"repld/change"
	"repld/dblog"
)

// What a server wrote, of MySQL 9.7.4: events with their headers and checksums.
const (
	recordedFormat = "d3fb016b0f010000007b0000007f00000000000400392e372e342d3200000000000000000000000000000000000000000000000000000000000000000000000000000000000000" +
		"d3fb016b13000d0008000000000400040000006300041a08000000000000020000000a0a0a2a2a001234000a28000001e9714c94"
	recordedPlain = "d3fb016b21010000004d0000009b0100000000013d49052ce5e811f180a702fc00000001020000000000000002010000000000000002000000000000001c78d304cf6006ca5062010007130700"
	recordedFree  = "d4fb016b21010000004f000000440100000000003d49052ce5e811f180a702fc00000001090000000000000002000000000000000001000000000000006ee7da04cf6006fc130150620100444293a2"
	recordedTag   = "d3fb016b2a01000000500000001d05000000000272000000027a920a589503a10322c50301029d0204f103000000020404060a6d7974616708080a140c7f7d2bd704cf60061059041283120bdfe86e4d"
	recordedNone  = "d3fb016b23010000001f0000009e00000080000000000000000000bf8cd05b"
	recordedList  = "d4fb016b230100000076000000f5000000800001020000000000013d49052ce5e811f180a702fc00000001000100000000000000010000000000000009000000000000003d49052ce5e811f180a702fc000000010a6d797461670100000000000000010000000000000002000000000000007d63db05"
	recordedStop  = "b9fc016b0301000000170000001f0200000000f6551af5"
	recordedUUID  = "3d49052c-e5e8-11f1-80a7-02fc00000001"
)

func recorded(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	must(t, err)
	if !sealed(b) {
		t.Fatalf("the checksum of %x is wrong", b)
	}
	return b
}

// recordedBody is what stands in an event.
func recordedBody(t testing.TB, text string) []byte {
	t.Helper()
	f, err := parseFormat(recorded(t, recordedFormat))
	must(t, err)
	body, err := f.body(recorded(t, text))
	must(t, err)
	return body
}

func TestMySQLEvents(t *testing.T) {
	f, err := parseFormat(recorded(t, recordedFormat))
	must(t, err)
	if f.version != "9.7.4-2" || f.checksum != checksumCRC32 || (mysqlDialect{}).wrote(f.version) != nil || (mariadbDialect{}).wrote(f.version) == nil {
		t.Errorf("the format is %+v", f)
	}
	for _, c := range []struct {
		text, want string
		length     uint64
		parse      func([]byte) (mysqlID, uint64, error)
	}{
		{recordedPlain, recordedUUID + ":2", 202, parseMySQLGTID},
		{recordedFree, recordedUUID + ":9", 275, parseMySQLGTID},
		{recordedTag, recordedUUID + ":mytag:1", 278, parseTaggedGTID},
	} {
		body := recordedBody(t, c.text)
		id, length, err := c.parse(body)
		if err != nil || id.String() != c.want || length != c.length {
			t.Errorf("the group is %s of %d bytes (%v), want %s of %d", id, length, err, c.want, c.length)
		}
		for n := range len(body) {
			id, _, err := c.parse(body[:n])
			if err == nil && id.String() != c.want {
				t.Errorf("%d bytes of an event were taken for %s", n, id)
			}
		}
	}
	for text, want := range map[string]string{recordedNone: "", recordedList: recordedUUID + ":1-8," + recordedUUID + ":mytag:1"} {
		body := recordedBody(t, text)
		set, err := parseSetBytes(body)
		if err != nil || set.String() != want {
			t.Errorf("the list is %q (%v), want %q", set, err, want)
		}
		for n := range len(body) {
			if _, err := parseSetBytes(body[:n]); err == nil {
				t.Errorf("%d bytes of a list were taken", n)
			}
		}
	}
}

// gtids reads a set in which A and B stand for servers.
func gtids(t testing.TB, text string) mysqlSet {
	t.Helper()
	s, err := parseSet(strings.NewReplacer("A", recordedUUID, "B", "4d49052c-e5e8-11f1-80a7-02fc00000001").Replace(text))
	must(t, err)
	return s
}

func TestSetsOfGTIDs(t *testing.T) {
	all := gtids(t, " B:1 , A:7:1-3:4-5:tag:1-3")
	if want := gtids(t, "A:1-5:7,A:tag:1-3,B:1"); !all.equal(want) || !gtids(t, all.String()).equal(all) {
		t.Errorf("the set is %s", all)
	}
	for text, want := range map[string]bool{
		"": true, "A:1-5": true, "A:2:4,B:1": true, "A:1-6": false, "A:tag:3": true, "A:tag:4": false, "B:tag:1": false, "A:5-7": false, "B:1-2": false,
	} {
		s := gtids(t, text)
		if got := s.within(all); got != want {
			t.Errorf("%s within %s: %v", s, all, got)
		}
		if missing := s.lacking(all); missing.empty() != want || !missing.within(s) {
			t.Errorf("%s lacks %s of %s", all, missing, s)
		}
	}
	if got := gtids(t, "A:1-10,B:1").lacking(gtids(t, "A:3:5-6:9-12")); !got.equal(gtids(t, "A:1-2:4:7-8,B:1")) {
		t.Errorf("what is missing is %s", got)
	}
	six := mysqlID{recordedUUID, 6}
	if all.has(six) || !all.with(six).has(six) || all.has(six) || !all.with(six).equal(gtids(t, "A:1-7:tag:1-3,B:1")) {
		t.Errorf("%s with %s is %s", all, six, all.with(six))
	}
	if got := gtids(t, "A:1-2").joined(gtids(t, "A:3:9,B:4")); !got.equal(gtids(t, "A:1-3:9,B:4")) {
		t.Errorf("joined they are %s", got)
	}
	for _, text := range []string{"x:1", recordedUUID + ":0", recordedUUID + ":5-3", recordedUUID + ":1-", recordedUUID + ":9223372036854775808"} {
		if _, err := parseSet(text); err == nil {
			t.Errorf("%q was taken for a set", text)
		}
	}
}

// TestVarints has numbers of each length.
func TestVarints(t *testing.T) {
	for text, want := range map[string]uint64{
		"00": 0, "02": 1, "fe": 127, "9503": 0xe5, "5904": 278, "830001": 0x2010, "7f7d2bd704cf6006": 0x0660cf04d72b7d,
		"ff0102030405060708": 0x0807060504030201,
	} {
		b, err := hex.DecodeString(text)
		must(t, err)
		v := varints{b: b}
		if got := v.next(); got != want || v.failed || len(v.b) > 0 {
			t.Errorf("%s is %#x, want %#x; %d bytes are left", text, got, want, len(v.b))
		}
		short := varints{b: b[:len(b)-1]}
		if short.next(); !short.failed {
			t.Errorf("%s without its last byte was taken", text)
		}
	}
	for text, want := range map[string]int64{"00": 0, "04": 1, "02": -1} {
		b, err := hex.DecodeString(text)
		must(t, err)
		if v := (varints{b: b}); v.signed() != want {
			t.Errorf("%s isn't %d", text, want)
		}
	}
}

func TestSupportedVersionsOfMySQL(t *testing.T) {
	for version, want := range map[string]bool{
		"8.0.26": true, "8.0.39-0ubuntu0.22.04.1": true, "8.4.2": true, "9.7.4-2": true, "8.0.25": false, "5.7.44-log": false,
		"10.11.19-MariaDB-0+deb12u1-log": false, "": false, "9.7": false,
	} {
		if err := supportedMySQL(version); (err == nil) != want {
			t.Errorf("%q: %v", version, err)
		}
	}
}

// TestRequestsOfMySQL have a set in them, or say why not.
func TestRequestsOfMySQL(t *testing.T) {
	d := mysqlDialect{}
	set := recordedBody(t, recordedList)
	b := []byte{0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 'a', 'b', 'c', 4, 0, 0, 0, 0, 0, 0, 0, byte(len(set)), 0, 0, 0}
	b = append(b, set...)
	have, ok, err := d.requested(nil, commandDumpGTID, b)
	if err != nil || !ok || !have.equal(gtids(t, "A:1-8:mytag:1")) {
		t.Errorf("the replica has %v: %v", have, err)
	}
	for n := range len(b) {
		if _, ok, err := d.requested(nil, commandDumpGTID, b[:n]); !ok || err == nil {
			t.Fatalf("%d bytes of a request were taken: %v", n, err)
		}
	}
	if _, ok, err := d.requested(nil, commandDump, b); !ok || err == nil || !strings.Contains(err.Error(), "SOURCE_AUTO_POSITION = 1") {
		t.Errorf("a request by file: %v", err)
	}
	if _, ok, _ := d.requested(nil, commandPing, nil); ok {
		t.Error("a ping was taken for a request")
	}
}

// TestProofOfAPassword is what clients answer by caching_sha2_password.
func TestProofOfAPassword(t *testing.T) {
	challenge := []byte{10, 47, 74, 111, 75, 73, 34, 48, 88, 76, 114, 74, 37, 13, 3, 80, 82, 2, 23, 21}
	const want = "f490e76f66d9d86665ce54d98c78d0acfe2fb0b08b423da807144873d30b312c"
	if got := hex.EncodeToString((mysqlDialect{}).proof("secret", challenge)); got != want {
		t.Errorf("the proof is %s, want %s", got, want)
	}
}

// TestLogsOfAServerThatIsDown says whether it was shut down cleanly, and what it has.
func TestLogsOfAServerThatIsDown(t *testing.T) {
	d := mysqlDialect{}
	dir := t.TempDir()
	logs := logFiles(filepath.Join(dir, "binlog"))
	put := func(events ...[]byte) {
		t.Helper()
		at := fileHead
		b := []byte("\xfebin")
		for _, e := range events { // each at its new place
			e = bytes.Clone(e)
			at += len(e)
			binary.LittleEndian.PutUint32(e[13:], uint32(at))
			seal(e)
			b = append(b, e...)
		}
		must(t, os.WriteFile(filepath.Join(dir, "binlog.000002"), b, 0o600))
	}
	if _, err := d.clean(logs); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("logs that aren't there: %v", err)
	}
	must(t, os.WriteFile(string(logs)+".index", []byte("./binlog.000001\n./binlog.000002\n"), 0o600))
	format, list, group, stop := recorded(t, recordedFormat), recorded(t, recordedList), recorded(t, recordedFree), recorded(t, recordedStop)
	written := bytes.Clone(format)
	written[17] |= flagInUse
	for name, c := range map[string]struct {
		events [][]byte
		clean  bool
	}{
		"stopped": {[][]byte{format, list, group, stop}, true}, "killed": {[][]byte{written, list, group}, false},
		"marked": {[][]byte{written, list, group, stop}, false}, "torn": {[][]byte{format, list, group}, false},
	} {
		put(c.events...)
		if clean, err := d.clean(logs); err != nil || clean != c.clean {
			t.Errorf("%s: clean %v (%v), want %v", name, clean, err, c.clean)
		}
		have, err := d.last(logs, gtids(t, "B:1-3"))
		if err != nil || !have.equal(gtids(t, "A:1-9:mytag:1,B:1-3")) {
			t.Errorf("%s: the server has %v: %v", name, have, err)
		}
	}
	anonymous := bytes.Clone(group)
	anonymous[4] = eventAnonymous
	put(format, list, anonymous, stop)
	_, err := d.last(logs, gtids(t, ""))
	wantErr(t, err, dblog.ErrNeedsSeed)
	must(t, d.synced(logs, change.StreamPosition{Chapter: 2, Offset: 4}))
	if d.synced(logs, change.StreamPosition{Chapter: 7, Offset: 4}) == nil {
		t.Error("a file that isn't there was synced")
	}
}

// TestSeedsAreCarriedWhole packs and unpacks a directory; what leads elsewhere is refused.
func TestSeedsAreCarriedWhole(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	must(t, os.MkdirAll(filepath.Join(from, "#innodb_redo", "empty"), 0o750))
	must(t, os.WriteFile(filepath.Join(from, "#innodb_redo", "#ib_redo1"), bytes.Repeat([]byte("x"), 100_000), 0o640))
	must(t, os.WriteFile(filepath.Join(from, "ibdata1"), nil, 0o600))
	var archive bytes.Buffer
	must(t, pack(t.Context(), &archive, from))
	o := RestoreOptions{Kind: MySQL, DataDir: to, UID: -1, GID: -1}
	_, err := Restore(t.Context(), bytes.NewReader(archive.Bytes()), o)
	must(t, err)
	b, err := os.ReadFile(filepath.Join(to, "#innodb_redo", "#ib_redo1"))
	if err != nil || len(b) != 100_000 {
		t.Errorf("%d bytes arrived: %v", len(b), err)
	}
	st, err := os.Stat(filepath.Join(to, "#innodb_redo", "empty"))
	if err != nil || !st.IsDir() {
		t.Errorf("a directory didn't arrive: %v", err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(archive.Bytes()), o); err == nil {
		t.Error("a directory that isn't empty was taken")
	}
	for _, n := range []int{100, 50_000} {
		o.DataDir = filepath.Join(t.TempDir(), "to")
		if _, err := Restore(t.Context(), bytes.NewReader(archive.Bytes()[:n]), o); err == nil {
			t.Errorf("%d bytes of an archive were taken", n)
		}
	}
	for _, h := range []tar.Header{{Name: "../outside", Typeflag: tar.TypeReg}, {Name: "link", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink}} {
		var bad bytes.Buffer
		w := tar.NewWriter(&bad)
		must(t, w.WriteHeader(&h))
		must(t, w.Close())
		o.DataDir = filepath.Join(t.TempDir(), "to")
		if _, err := Restore(t.Context(), &bad, o); err == nil {
			t.Errorf("%s was unpacked", h.Name)
		}
	}
	must(t, os.Symlink("/etc/passwd", filepath.Join(from, "link")))
	if pack(t.Context(), &archive, from) == nil {
		t.Error("a symbolic link was packed")
	}
}
