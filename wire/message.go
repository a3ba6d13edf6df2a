package wire

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// Type says which message a frame carries. The numbers are transmitted and never
// used again for another message.
type Type uint16

// The types of messages, by the place where they are used.
const (
	TypeHello     Type = 1
	TypeJoin      Type = 2
	TypeJoinReply Type = 3
	TypeRefusal   Type = 4
	TypeNodeState Type = 5
	TypePair      Type = 6

	TypeResume         Type = 16
	TypeResumeReply    Type = 17
	TypeIncarnation    Type = 18
	TypeProgress       Type = 19
	TypeHeartbeat      Type = 20
	TypeBarrierRequest Type = 21
	TypeBarrierReply   Type = 22
	TypeVerifyRequest  Type = 23
	TypeVerifyReport   Type = 24
	TypeSpoolResume    Type = 25

	TypeLogStream Type = 32
	TypeBlock     Type = 33

	TypeFetchStream  Type = 40
	TypeFetchRequest Type = 41
	TypeFetchedChunk Type = 42

	TypeManifestStream  Type = 48
	TypeManifestStart   Type = 49
	TypeManifestRecords Type = 50
	TypeManifestEnd     Type = 51

	TypeSpoolStream Type = 56
	TypeSpoolBlock  Type = 57

	TypeSeedStream Type = 64
	TypeSeedBlock  Type = 65
	TypeSeedEnd    Type = 66
)

// Message is one of the message types of this package; the set is closed. A
// Message is plain data. Sending checks it against its limits, receiving too, so
// what [Conn.Receive] and [Stream.Receive] return can be relied on to be within
// them.
type Message interface {
	Type() Type
	validate() error
	toProto() proto.Message
	fromProto(body []byte) error
}

// limit is the longest body of a message in bytes. A frame that announces more is
// refused before anything is allocated for it.
const (
	smallLimit    = 4 << 10
	fetchLimit    = 20 << 10
	reportLimit   = 320 << 10
	manifestLimit = MaxManifestRecords + 64
	pairLimit     = MaxPairBody + smallLimit
	spoolsLimit   = smallLimit + MaxSpools*(MaxName+64)
)

type kind struct {
	name  string
	limit int
	make  func() Message
}

var kinds = map[Type]kind{
	TypeHello:           {"Hello", smallLimit, func() Message { return new(Hello) }},
	TypeJoin:            {"Join", smallLimit, func() Message { return new(Join) }},
	TypeJoinReply:       {"JoinReply", smallLimit, func() Message { return new(JoinReply) }},
	TypeRefusal:         {"Refusal", smallLimit, func() Message { return new(Refusal) }},
	TypeNodeState:       {"NodeState", smallLimit, func() Message { return new(NodeState) }},
	TypePair:            {"PairMessage", pairLimit, func() Message { return new(PairMessage) }},
	TypeResume:          {"Resume", spoolsLimit, func() Message { return new(Resume) }},
	TypeResumeReply:     {"ResumeReply", smallLimit, func() Message { return new(ResumeReply) }},
	TypeIncarnation:     {"Incarnation", smallLimit, func() Message { return new(Incarnation) }},
	TypeProgress:        {"Progress", spoolsLimit, func() Message { return new(Progress) }},
	TypeHeartbeat:       {"Heartbeat", smallLimit, func() Message { return new(Heartbeat) }},
	TypeBarrierRequest:  {"BarrierRequest", smallLimit, func() Message { return new(BarrierRequest) }},
	TypeBarrierReply:    {"BarrierReply", smallLimit, func() Message { return new(BarrierReply) }},
	TypeVerifyRequest:   {"VerifyRequest", smallLimit, func() Message { return new(VerifyRequest) }},
	TypeVerifyReport:    {"VerifyReport", reportLimit, func() Message { return new(VerifyReport) }},
	TypeLogStream:       {"LogStream", smallLimit, func() Message { return new(LogStream) }},
	TypeBlock:           {"Block", smallLimit, func() Message { return new(Block) }},
	TypeFetchStream:     {"FetchStream", smallLimit, func() Message { return new(FetchStream) }},
	TypeFetchRequest:    {"FetchRequest", fetchLimit, func() Message { return new(FetchRequest) }},
	TypeFetchedChunk:    {"FetchedChunk", smallLimit, func() Message { return new(FetchedChunk) }},
	TypeManifestStream:  {"ManifestStream", smallLimit, func() Message { return new(ManifestStream) }},
	TypeManifestStart:   {"ManifestStart", smallLimit, func() Message { return new(ManifestStart) }},
	TypeManifestRecords: {"ManifestRecords", manifestLimit, func() Message { return new(ManifestRecords) }},
	TypeManifestEnd:     {"ManifestEnd", smallLimit, func() Message { return new(ManifestEnd) }},
	TypeSpoolResume:     {"SpoolResume", smallLimit, func() Message { return new(SpoolResume) }},
	TypeSpoolStream:     {"SpoolStream", smallLimit, func() Message { return new(SpoolStream) }},
	TypeSpoolBlock:      {"SpoolBlock", smallLimit, func() Message { return new(SpoolBlock) }},
	TypeSeedStream:      {"SeedStream", smallLimit, func() Message { return new(SeedStream) }},
	TypeSeedBlock:       {"SeedBlock", smallLimit, func() Message { return new(SeedBlock) }},
	TypeSeedEnd:         {"SeedEnd", smallLimit, func() Message { return new(SeedEnd) }},
}

func (t Type) String() string {
	if k, ok := kinds[t]; ok {
		return k.name
	}
	return fmt.Sprintf("type(%d)", uint16(t))
}

// decode parses the body of a frame and checks it against the message's limits.
func decode(t Type, body []byte) (Message, error) {
	k, ok := kinds[t]
	if !ok {
		return nil, malformed("frame of unknown type %d", uint16(t))
	}
	if len(body) > k.limit {
		return nil, malformed("%v message of %d bytes, longer than its limit of %d", t, len(body), k.limit)
	}
	m := k.make()
	if err := m.fromProto(body); err != nil {
		return nil, malformed("%v message: %w", t, err)
	}
	if err := m.validate(); err != nil {
		return nil, malformed("%v message: %w", t, err)
	}
	return m, nil
}

// parse decodes a protobuf body. Fields that this version doesn't know are
// dropped: what must not be ignored raises the format's version.
func parse(body []byte, into proto.Message) error {
	return proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(body, into)
}

// fields converts what protobuf can't express, and keeps the first error.
type fields struct{ err error }

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf(format, args...)
	}
}

// fixed copies b, which must be as long as dst; none at all means zero if optional.
func (f *fields) fixed(name string, dst, b []byte, optional bool) {
	if len(b) == 0 && optional {
		return
	}
	if len(b) != len(dst) {
		f.fail("%s has %d bytes, want %d", name, len(b), len(dst))
		return
	}
	copy(dst, b)
}

func (f *fields) position(p *wirepb.Position) (pos change.LogPosition) {
	f.fixed("incarnation", pos.Incarnation[:], p.GetIncarnation(), true)
	f.fixed("chain", pos.Chain[:], p.GetChain(), true)
	pos.Offset = p.GetOffset()
	return pos
}

func (f *fields) duration(name string, nanos uint64) time.Duration {
	if nanos > math.MaxInt64 {
		f.fail("%s of %d ns is out of range", name, nanos)
		return 0
	}
	return time.Duration(nanos)
}

func (f *fields) byteNumber(name string, n uint32) uint8 {
	if n > math.MaxUint8 {
		f.fail("%s %d is out of range", name, n)
		return 0
	}
	return uint8(n)
}

// optional returns b, or nothing if it is all zero: zero digests and
// incarnations aren't transmitted.
func optional(b []byte) []byte {
	for _, c := range b {
		if c != 0 {
			return b
		}
	}
	return nil
}

func positionProto(p change.LogPosition) *wirepb.Position {
	return &wirepb.Position{Incarnation: optional(p.Incarnation[:]), Offset: p.Offset, Chain: optional(p.Chain[:])}
}

func barrierProto(id change.BarrierID) *wirepb.BarrierID {
	if id.IsZero() {
		return nil
	}
	return &wirepb.BarrierID{Epoch: uint64(id.Epoch), Seq: id.Seq}
}

func barrierID(p *wirepb.BarrierID) change.BarrierID {
	return change.BarrierID{Epoch: change.Epoch(p.GetEpoch()), Seq: p.GetSeq()}
}

// MaxName is the longest name of a group or node in bytes.
const MaxName = 255

// checkName judges the name of a group, which ends up in paths and messages.
func checkName(what, name string) error {
	if name == "" {
		return fmt.Errorf("%s is empty", what)
	}
	return checkText(what, name, MaxName)
}

// checkText accepts valid UTF-8 without control characters, because a peer's text
// is shown to operators on terminals.
func checkText(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s has %d bytes, the limit is %d", what, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not valid UTF-8", what)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Errorf("%s %q holds control characters", what, s)
		}
	}
	return nil
}

func checkDuration(what string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s %v is negative", what, d)
	}
	return nil
}

var errNoCall = errors.New("call number is zero")
