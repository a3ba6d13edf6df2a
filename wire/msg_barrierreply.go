package wire

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

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
