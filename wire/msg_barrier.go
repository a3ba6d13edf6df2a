package wire

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// BarrierRequest asks the primary for a barrier that holds all that was done
// before the call.
type BarrierRequest struct {
	Call  uint64 // the caller's number of the request, from 1, repeated in the reply
	Group string
}

// Type implements [Message].
func (*BarrierRequest) Type() Type { return TypeBarrierRequest }

func (m *BarrierRequest) toProto() proto.Message {
	return &wirepb.BarrierRequest{Call: m.Call, Group: m.Group}
}

func (m *BarrierRequest) fromProto(body []byte) error {
	var p wirepb.BarrierRequest
	if err := parse(body, &p); err != nil {
		return err
	}
	*m = BarrierRequest{Call: p.Call, Group: p.Group}
	return nil
}

func (m *BarrierRequest) validate() error {
	if m.Call == 0 {
		return errNoCall
	}
	return checkName("group", m.Group)
}

// BarrierReply answers [BarrierRequest]: Barrier or Error.
type BarrierReply struct {
	Call    uint64
	Barrier change.BarrierID
	Error   *Refusal // nil: done
}

// Type implements [Message].
func (*BarrierReply) Type() Type { return TypeBarrierReply }

func (m *BarrierReply) toProto() proto.Message {
	return &wirepb.BarrierReply{Call: m.Call, Barrier: barrierProto(m.Barrier), Error: refusalProto(m.Error)}
}

func (m *BarrierReply) fromProto(body []byte) error {
	var p wirepb.BarrierReply
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = BarrierReply{Call: p.Call, Barrier: barrierID(p.Barrier), Error: f.refusal(p.Error)}
	return f.err
}

func (m *BarrierReply) validate() error {
	switch {
	case m.Call == 0:
		return errNoCall
	case m.Error == nil && m.Barrier.IsZero():
		return errors.New("neither a barrier nor an error")
	}
	return m.Error.validate()
}
