package wire

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"repld/change"
)

var (
	testDigest      = change.Digest{1, 2, 3}
	testIncarnation = change.IncarnationID{9, 8, 7}
	testPosition    = change.LogPosition{Incarnation: testIncarnation, Offset: 1 << 40, Chain: change.Digest{5}}
	testBarrier     = change.BarrierID{Epoch: 3, Seq: 812}
	testStream      = change.StreamPosition{Chapter: ^uint32(0), Offset: ^uint64(0)}
	testRefusal     = &Refusal{Code: CodeFailed, Text: "no", Hint: "wait"}
)

// samples has every message at least once, with all fields set and with none but
// the required ones.
func samples() []Message {
	differences := make([]Difference, MaxDifferences)
	for i := range differences {
		differences[i] = Difference{Path: "tree/" + strings.Repeat("\xff\n", MaxDifferencePath/2-3), What: "content"}
	}
	digests := make([]change.Digest, MaxFetch)
	for i := range digests {
		digests[i] = change.Digest{byte(i), byte(i >> 8), 1}
	}
	return []Message{
		&Hello{MinVersion: 1, MaxVersion: 2, Software: "0.1.0", Node: "slayer", Role: RoleProduction, Epoch: 3,
			Designated: DesignatedPrimary, Clock: time.Unix(1795248000, 123456789).UTC(), Joining: true, Group: "sounz",
			Contents: &Contents{Trees: []string{"data", "home"}, Databases: []string{"sounz"}}},
		&Join{Secret: [SecretSize]byte{1, 2}, Address: "[2001:db8::1]:7440"},
		&Join{},
		&JoinReply{}, &JoinReply{Known: true},
		testRefusal,
		&PairMessage{Kind: PairQuestion, ID: 7, Verb: "ready", Body: []byte("{}")},
		&NodeState{Role: RoleStandby, Status: "standby", Epoch: 3, Clock: time.Unix(1795248000, 1).UTC()},
		&Resume{Group: "tree", Position: testPosition, Applied: testBarrier, HasBase: true},
		&Resume{Group: "t"},
		&Resume{Group: "t", Spools: []SpoolEnd{{Database: "app", Call: 1, End: testStream}, {Database: "shop", Call: 2}}},
		&SpoolResume{Group: "tree", Spool: SpoolEnd{Database: "app", Call: 1}},
		&SpoolResume{Group: "tree", Spool: SpoolEnd{Database: "app", Call: 1 << 40, End: testStream}},
		&ResumeReply{Group: "tree", Action: ResumeStream, Position: testPosition, Incarnation: testIncarnation},
		&ResumeReply{Group: "tree", Action: ResumeBase},
		&Incarnation{Group: "tree", Incarnation: testIncarnation, Start: 77},
		&Progress{Group: "tree", Durable: 1, Received: testBarrier, Applied: testBarrier, AppliedOffset: 2, Phase: PhaseCatchingUp,
			SeedFilesDone: 3, SeedFilesTotal: 4, SeedBytesDone: 5, SeedBytesTotal: 6, AppliedDigest: testDigest},
		&Progress{Group: "tree", Phase: PhaseSeeding},
		&Progress{Group: "tree", Phase: PhaseStreaming, Lacks: testBarrier},
		&Progress{Group: "tree", Phase: PhaseStreaming, Spools: []SpoolProgress{{Database: "app", Call: 1, Durable: testStream, Replayed: testStream}, {Database: "shop"}}},
		&Heartbeat{Group: "tree", Captured: testBarrier, CutAge: time.Second, Confirmed: true, ConfirmedAge: 2, OldestPending: 3,
			PendingBytes: 4, PendingFiles: 5, EndOffset: 6},
		&Heartbeat{Group: "tree"},
		&BarrierRequest{Call: 1, Group: "tree"},
		&BarrierReply{Call: 1, Barrier: testBarrier},
		&BarrierReply{Call: 1, Error: testRefusal},
		&VerifyRequest{Call: 1, Group: "tree", Full: true, Repair: true},
		&VerifyReport{Call: 1, Barrier: testBarrier, Tree: testDigest, Files: 2, Bytes: 3, Differences: differences, Total: 4, Repaired: 3, Done: true, Error: testRefusal},
		&VerifyReport{Call: 1},
		&LogStream{Group: "tree", Index: MaxStreams - 1},
		&Block{Offset: 1 << 50, Length: MaxBlock},
		&FetchStream{Group: "tree"},
		&FetchRequest{Digests: digests},
		&FetchRequest{Digests: digests, Unchecked: true},
		&FetchedChunk{Digest: testDigest, Codec: change.CodecZstd, RawLength: change.ChunkMax, Length: 7},
		&FetchedChunk{Digest: testDigest, Gone: true},
		&ManifestStream{Group: "tree"},
		&ManifestStart{Position: testPosition, Nodes: 1, Files: 2, Bytes: 3},
		&ManifestRecords{Records: bytes.Repeat([]byte{7}, MaxManifestRecords)},
		&ManifestEnd{},
		&SpoolStream{Group: "tree", Database: "app", Call: 1 << 40},
		&SpoolBlock{Length: MaxSpoolBlock},
		&SpoolBlock{},
		&SeedStream{Group: "tree", Database: "app"},
		&SeedBlock{Length: MaxSeedBlock},
		&SeedEnd{Bytes: 1 << 50, Digest: testDigest},
		&SeedEnd{},
	}
}

func TestLongestListsOfDatabasesFit(t *testing.T) {
	long := strings.Repeat("g", MaxName)
	for _, m := range []Message{
		&Resume{Group: long, Position: testPosition, Applied: testBarrier, HasBase: true, Spools: testSpools()},
		&Progress{Group: long, Durable: ^uint64(0), Phase: PhaseStreaming, AppliedDigest: testDigest, Spools: testSpoolProgress()},
	} {
		frame, err := appendFrame(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(m.Type(), frame[frameHeader:])
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%v: got %+v, %v", m.Type(), got, err)
		}
	}
}

// testSpools are as many as there may be, with the longest names and numbers.
func testSpools() (list []SpoolEnd) {
	for i := range uint64(MaxSpools) {
		list = append(list, SpoolEnd{Database: strings.Repeat("x", MaxName), Call: ^i, End: testStream})
	}
	return list
}

func testSpoolProgress() (list []SpoolProgress) {
	for range MaxSpools {
		list = append(list, SpoolProgress{Database: strings.Repeat("y", MaxName), Call: ^uint64(0), Durable: testStream, Replayed: testStream})
	}
	return list
}

func TestSamplesCoverEveryType(t *testing.T) {
	seen := map[Type]bool{}
	for _, m := range samples() {
		seen[m.Type()] = true
	}
	for typ, k := range kinds {
		if !seen[typ] {
			t.Errorf("no sample of %s", k.name)
		}
		if got := k.make().Type(); got != typ {
			t.Errorf("%s is registered as type %d and says %d", k.name, typ, got)
		}
	}
}

func TestMessagesSurviveTheFrame(t *testing.T) {
	var all []byte
	for _, m := range samples() {
		var err error
		if all, err = appendFrame(all, m); err != nil {
			t.Fatal(err)
		}
	}
	for name, src := range map[string]io.Reader{
		"whole":         bytes.NewReader(all),
		"byte by byte":  iotest.OneByteReader(bytes.NewReader(all)),
		"data with EOF": iotest.DataErrReader(bytes.NewReader(all)),
	} {
		var r frameReader
		for _, want := range samples() {
			got, err := r.next(src, nil)
			if err != nil {
				t.Fatalf("%s: %v: %v", name, want.Type(), err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s: got %+v, want %+v", name, got, want)
			}
		}
		if _, err := r.next(src, nil); err != io.EOF {
			t.Errorf("%s: got %v at the end", name, err)
		}
	}
}

func TestTruncatedFramesAreNoticed(t *testing.T) {
	for _, m := range samples() {
		frame, err := appendFrame(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n < len(frame); n += 1 + n/64 {
			var r frameReader
			if _, err := r.next(bytes.NewReader(frame[:n]), nil); err != io.ErrUnexpectedEOF {
				t.Fatalf("%v cut to %d of %d bytes: got %v", m.Type(), n, len(frame), err)
			}
		}
		// A body that is cut where a field ends may be a message; it must not be a
		// message beyond the limits, nor panic.
		for n := 0; n < len(frame)-frameHeader; n += 1 + n/64 {
			got, err := decode(m.Type(), frame[frameHeader:frameHeader+n])
			if err != nil {
				if !errors.Is(err, ErrMalformed) {
					t.Fatalf("%v: got %v, want %v", m.Type(), err, ErrMalformed)
				}
				continue
			}
			if err := got.validate(); err != nil {
				t.Fatalf("%v: %v", m.Type(), err)
			}
		}
	}
}

func TestReadingAFrameGoesOnAfterATimeout(t *testing.T) {
	want := &Resume{Group: "tree", Position: testPosition}
	frame, err := appendFrame(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range frame {
		var r frameReader
		src := io.MultiReader(bytes.NewReader(frame[:cut]), iotest.ErrReader(iotest.ErrTimeout))
		if _, err := r.next(src, nil); err != iotest.ErrTimeout {
			t.Fatalf("cut at %d: got %v", cut, err)
		}
		got, err := r.next(bytes.NewReader(frame[cut:]), nil)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("cut at %d: got %+v, %v", cut, got, err)
		}
	}
}

func TestLimits(t *testing.T) {
	long := strings.Repeat("x", MaxName+1)
	hello := func(change func(*Hello)) *Hello {
		h := &Hello{MinVersion: 1, MaxVersion: 1, Node: "n", Role: RoleStandby, Designated: DesignatedSecondary}
		change(h)
		return h
	}
	for _, m := range []Message{
		hello(func(h *Hello) { h.MinVersion = 0 }),
		hello(func(h *Hello) { h.MinVersion = 2 }),
		hello(func(h *Hello) { h.Node = "" }),
		hello(func(h *Hello) { h.Node = "\x1b[31m" }),
		hello(func(h *Hello) { h.Node = long }),
		hello(func(h *Hello) { h.Software = "\xff" }),
		hello(func(h *Hello) { h.Role = 0 }),
		hello(func(h *Hello) { h.Group = long }),
		hello(func(h *Hello) { h.Contents = &Contents{Trees: []string{""}} }),
		hello(func(h *Hello) { h.Contents = &Contents{Databases: []string{"a\nb"}} }),
		hello(func(h *Hello) { h.Contents = &Contents{Trees: slices.Repeat([]string{long[1:]}, 8)} }),
		&PairMessage{}, &PairMessage{Kind: 4}, &PairMessage{Kind: PairNote, Verb: long},
		&NodeState{}, &NodeState{Role: RoleStandby, Status: long},
		&Join{Address: long},
		&Refusal{Text: "no code"},
		&Refusal{Code: 1, Text: strings.Repeat("x", MaxRefusalText+1)},
		&Refusal{Code: 1, Hint: "two\nlines"},
		&Resume{}, &Resume{Group: long},
		&ResumeReply{Group: "g"}, &ResumeReply{Group: "g", Action: 3},
		&Incarnation{Group: "g"},
		&Progress{Group: "g"}, &Progress{Group: "g", Phase: 6},
		&Heartbeat{Group: "g", CutAge: -1},
		&BarrierRequest{Group: "g"}, &BarrierRequest{Call: 1},
		&BarrierReply{Call: 1}, &BarrierReply{Call: 1, Error: &Refusal{}},
		&VerifyRequest{Group: "g"},
		&VerifyReport{}, &VerifyReport{Call: 1, Differences: make([]Difference, MaxDifferences+1)},
		&VerifyReport{Call: 1, Differences: []Difference{{Path: strings.Repeat("x", MaxDifferencePath+1)}}},
		&VerifyReport{Call: 1, Error: testRefusal},
		&LogStream{Group: "g", Index: MaxStreams},
		&Block{}, &Block{Length: MaxBlock + 1}, &Block{Offset: ^uint64(0), Length: 2},
		&FetchStream{},
		&FetchRequest{}, &FetchRequest{Digests: make([]change.Digest, 1)},
		&FetchRequest{Digests: make([]change.Digest, MaxFetch+1)},
		&FetchedChunk{Gone: true},
		&FetchedChunk{Digest: testDigest, Gone: true, Length: 1},
		&FetchedChunk{Digest: testDigest, Codec: 9, RawLength: 1, Length: 1},
		&FetchedChunk{Digest: testDigest, Codec: change.CodecZstd, RawLength: change.ChunkMax + 1, Length: 1},
		&FetchedChunk{Digest: testDigest, Codec: change.CodecZstd, RawLength: 5, Length: 6},
		&FetchedChunk{Digest: testDigest, Codec: change.CodecRaw, RawLength: 5, Length: 4},
		&ManifestStream{},
		&ManifestRecords{}, &ManifestRecords{Records: make([]byte, MaxManifestRecords+1)},
		&Resume{Group: "g", Spools: make([]SpoolEnd, 1)}, &Resume{Group: "g", Spools: append(testSpools(), testSpools()...)},
		&Progress{Group: "g", Phase: PhaseStreaming, Spools: make([]SpoolProgress, 1)},
		&Progress{Group: "g", Phase: PhaseStreaming, Spools: append(testSpoolProgress(), testSpoolProgress()...)},
		&SpoolResume{Group: "g"}, &SpoolResume{Group: "g", Spool: SpoolEnd{Database: "d"}}, &SpoolResume{Spool: SpoolEnd{Database: "d", Call: 1}},
		&SpoolStream{Group: "g", Database: "d"}, &SpoolStream{Group: "g", Call: 1}, &SpoolStream{Database: "d", Call: 1},
		&SpoolBlock{Length: MaxSpoolBlock + 1},
		&SeedStream{Group: "g"}, &SeedStream{Database: "d"},
		&SeedBlock{}, &SeedBlock{Length: MaxSeedBlock + 1},
	} {
		if b, err := appendFrame(nil, m); err == nil {
			t.Errorf("%v was sent as %d bytes: %+v", m.Type(), len(b), m)
		}
	}
}

func TestRefusalOfMakesAnyErrorSendable(t *testing.T) {
	for _, err := range []error{
		errors.New(strings.Repeat("ä", MaxRefusalText)),
		errors.New("tab\tand\nline\xff"),
		&RefusedError{},
		&RefusedError{Code: 70, Text: strings.Repeat("x", 5000), Hint: strings.Repeat("é\n", 5000)},
	} {
		if verr := RefusalOf(err).validate(); verr != nil {
			t.Errorf("%.40q: %v", err, verr)
		}
	}
}

func FuzzMessage(f *testing.F) {
	for _, m := range samples() {
		frame, err := appendFrame(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		if len(frame) < 4096 {
			f.Add(uint16(m.Type()), frame[frameHeader:])
		}
	}
	f.Fuzz(func(t *testing.T, typ uint16, body []byte) {
		m, err := decode(Type(typ), body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("got %v, want %v", err, ErrMalformed)
			}
			return
		}
		frame, err := appendFrame(nil, m)
		if err != nil {
			t.Fatalf("received, but can't be sent: %v", err)
		}
		again, err := decode(m.Type(), frame[frameHeader:])
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("got %+v, %v, want %+v", again, err, m)
		}
	})
}

func FuzzFrames(f *testing.F) {
	var all []byte
	for _, m := range []Message{&BarrierRequest{Call: 1, Group: "tree"}, &Block{Length: 5}, &ManifestEnd{}} {
		all, _ = appendFrame(all, m)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, data []byte) {
		var r frameReader
		src := bytes.NewReader(data)
		for {
			if _, err := r.next(src, nil); err != nil {
				return
			}
		}
	})
}
