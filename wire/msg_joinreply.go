package wire

import (
	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// JoinReply says that the joiner's key is stored durably and accepted from now on.
type JoinReply struct {
	Known bool // the key had been accepted before; the secret wasn't used
}

// Type implements [Message].
func (*JoinReply) Type() Type { return TypeJoinReply }

func (m *JoinReply) toProto() proto.Message { return &wirepb.JoinReply{Known: m.Known} }

func (m *JoinReply) fromProto(body []byte) error {
	var p wirepb.JoinReply
	if err := parse(body, &p); err != nil {
		return err
	}
	*m = JoinReply{Known: p.Known}
	return nil
}

func (m *JoinReply) validate() error { return nil }
