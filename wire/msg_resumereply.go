package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// ResumeAction is how a session goes on. The numbers are transmitted.
type ResumeAction uint8

// The actions.
const (
	ResumeStream ResumeAction = 1 // the log continues at Position
	ResumeBase   ResumeAction = 2 // a base is needed first; the log continues at the manifest's position
)

func (a ResumeAction) String() string {
	switch a {
	case ResumeStream:
		return "stream"
	case ResumeBase:
		return "base"
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// ResumeReply answers [Resume].
type ResumeReply struct {
	Group       string
	Action      ResumeAction
	Position    change.LogPosition   // with ResumeStream: where to truncate to and continue from
	Incarnation change.IncarnationID // of the records that follow Position
}

// Type implements [Message].
func (*ResumeReply) Type() Type { return TypeResumeReply }

func (m *ResumeReply) toProto() proto.Message {
	return &wirepb.ResumeReply{Group: m.Group, Action: uint32(m.Action), Position: positionProto(m.Position),
		Incarnation: optional(m.Incarnation[:])}
}

func (m *ResumeReply) fromProto(body []byte) error {
	var p wirepb.ResumeReply
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = ResumeReply{Group: p.Group, Action: ResumeAction(f.byteNumber("action", p.Action)), Position: f.position(p.Position)}
	f.fixed("incarnation", m.Incarnation[:], p.Incarnation, true)
	return f.err
}

func (m *ResumeReply) validate() error {
	if m.Action != ResumeStream && m.Action != ResumeBase {
		return fmt.Errorf("action %d is unknown", m.Action)
	}
	return checkName("group", m.Group)
}
