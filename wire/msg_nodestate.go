package wire

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// NodeState is what a node says of itself on the connection of the pair: at its
// beginning, at every change, and every few seconds.
type NodeState struct {
	Role   Role
	Status string // one of the six statuses of a node
	Epoch  change.Epoch
	Clock  time.Time // the sender's wall clock at sending, UTC
}

// Type implements [Message].
func (*NodeState) Type() Type { return TypeNodeState }

func (m *NodeState) toProto() proto.Message {
	return &wirepb.NodeState{Role: uint32(m.Role), Status: m.Status, Epoch: uint64(m.Epoch), WallNanos: m.Clock.UnixNano()}
}

func (m *NodeState) fromProto(body []byte) error {
	var p wirepb.NodeState
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = NodeState{Role: Role(f.byteNumber("role", p.Role)), Status: p.Status, Epoch: change.Epoch(p.Epoch),
		Clock: time.Unix(0, p.WallNanos).UTC()}
	return f.err
}

func (m *NodeState) validate() error {
	if m.Role == 0 {
		return errors.New("role is missing")
	}
	return checkText("status", m.Status, MaxName)
}
