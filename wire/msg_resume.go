package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// Resume opens the session of one group: the standby says what it has.
type Resume struct {
	Group    string
	Position change.LogPosition // end of the standby's log; zero without a log
	Applied  change.BarrierID   // zero: none yet
	HasBase  bool               // the standby's catalog holds a complete base
}

// Type implements [Message].
func (*Resume) Type() Type { return TypeResume }

func (m *Resume) toProto() proto.Message {
	return &wirepb.Resume{Group: m.Group, Position: positionProto(m.Position), Applied: barrierProto(m.Applied), HasBase: m.HasBase}
}

func (m *Resume) fromProto(body []byte) error {
	var p wirepb.Resume
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = Resume{Group: p.Group, Position: f.position(p.Position), Applied: barrierID(p.Applied), HasBase: p.HasBase}
	return f.err
}

func (m *Resume) validate() error { return checkName("group", m.Group) }

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
