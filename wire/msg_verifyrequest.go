package wire

import (
	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// VerifyRequest asks the peer to read its tree and compare it with its catalog.
type VerifyRequest struct {
	Call   uint64 // the caller's number of the request, from 1, repeated in the reports
	Group  string
	Full   bool // look for what no event told, first
	Repair bool // mend a standby's tree
}

// Type implements [Message].
func (*VerifyRequest) Type() Type { return TypeVerifyRequest }

func (m *VerifyRequest) toProto() proto.Message {
	return &wirepb.VerifyRequest{Call: m.Call, Group: m.Group, Full: m.Full, Repair: m.Repair}
}

func (m *VerifyRequest) fromProto(body []byte) error {
	var p wirepb.VerifyRequest
	if err := parse(body, &p); err != nil {
		return err
	}
	*m = VerifyRequest{Call: p.Call, Group: p.Group, Full: p.Full, Repair: p.Repair}
	return nil
}

func (m *VerifyRequest) validate() error {
	if m.Call == 0 {
		return errNoCall
	}
	return checkName("group", m.Group)
}
