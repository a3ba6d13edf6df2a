package wire

import (
	"google.golang.org/protobuf/proto"

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
