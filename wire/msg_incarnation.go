package wire

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// Incarnation announces that the log's records from Start on belong to another
// incarnation than those before.
type Incarnation struct {
	Group       string
	Incarnation change.IncarnationID
	Start       uint64 // log offset
}

// Type implements [Message].
func (*Incarnation) Type() Type { return TypeIncarnation }

func (m *Incarnation) toProto() proto.Message {
	return &wirepb.Incarnation{Group: m.Group, Incarnation: optional(m.Incarnation[:]), Start: m.Start}
}

func (m *Incarnation) fromProto(body []byte) error {
	var p wirepb.Incarnation
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = Incarnation{Group: p.Group, Start: p.Start}
	f.fixed("incarnation", m.Incarnation[:], p.Incarnation, true)
	return f.err
}

func (m *Incarnation) validate() error {
	if m.Incarnation == (change.IncarnationID{}) {
		return errors.New("incarnation is missing")
	}
	return checkName("group", m.Group)
}
