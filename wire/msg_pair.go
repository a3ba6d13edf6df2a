package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// PairKind says what a [PairMessage] is. The numbers are transmitted.
type PairKind uint8

// The kinds.
const (
	PairNote     PairKind = 1 // wants no answer
	PairQuestion PairKind = 2
	PairAnswer   PairKind = 3 // to the question of the same ID
)

// MaxPairBody bounds the body of a PairMessage, in bytes.
const MaxPairBody = 1 << 20

// PairMessage is what one node says or asks the other on the connection of the pair,
// about roles and readiness: the envelope of a JSON document that the packages above
// this one know.
type PairMessage struct {
	Kind PairKind
	ID   uint64 // of a question, unique on the connection in its direction, and of its answer
	Verb string
	Body []byte // JSON, at most MaxPairBody
}

// Type implements [Message].
func (*PairMessage) Type() Type { return TypePair }

func (m *PairMessage) toProto() proto.Message {
	return &wirepb.PairMessage{Kind: uint32(m.Kind), Id: m.ID, Verb: m.Verb, Body: m.Body}
}

func (m *PairMessage) fromProto(body []byte) error {
	var p wirepb.PairMessage
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = PairMessage{Kind: PairKind(f.byteNumber("kind", p.Kind)), ID: p.Id, Verb: p.Verb, Body: p.Body}
	return f.err
}

func (m *PairMessage) validate() error {
	if m.Kind < PairNote || m.Kind > PairAnswer {
		return fmt.Errorf("kind %d", m.Kind)
	}
	if len(m.Body) > MaxPairBody {
		return fmt.Errorf("a body of %d bytes, longer than %d", len(m.Body), MaxPairBody)
	}
	return checkText("verb", m.Verb, MaxName)
}
