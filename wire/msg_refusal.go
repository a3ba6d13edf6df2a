package wire

import (
	"errors"
	"math"

	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// Limits of the texts of a refusal in bytes: it must fit into one packet, because
// it also travels as the reason with which a connection is closed.
const (
	MaxRefusalText = 600
	MaxRefusalHint = 300
)

// Refusal says no to one stream, in place of the message that was asked for;
// [Stream.Receive] returns it as a [*RefusedError]. Make it with [RefusalOf].
type Refusal struct {
	Code Code
	Text string
	Hint string
}

// Type implements [Message].
func (*Refusal) Type() Type { return TypeRefusal }

// RefusalOf turns err into something that can be sent: a [*RefusedError] in its
// chain as it is, another error as [CodeFailed] with its text. Texts are made
// printable and cut to their limits.
func RefusalOf(err error) *Refusal {
	r := &Refusal{Code: CodeFailed, Text: err.Error()}
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Code != CodeDone {
		r = &Refusal{Code: refused.Code, Text: refused.Text, Hint: refused.Hint}
	}
	r.Text, r.Hint = printable(r.Text, MaxRefusalText), printable(r.Hint, MaxRefusalHint)
	return r
}

// Err returns r as an error.
func (m *Refusal) Err() *RefusedError {
	return &RefusedError{Code: m.Code, Text: m.Text, Hint: m.Hint}
}

func refusalProto(m *Refusal) *wirepb.Refusal {
	if m == nil {
		return nil
	}
	return &wirepb.Refusal{Code: uint32(m.Code), Text: m.Text, Hint: m.Hint}
}

func (f *fields) refusal(p *wirepb.Refusal) *Refusal {
	if p == nil {
		return nil
	}
	if p.Code > math.MaxUint16 {
		f.fail("code %d of a refusal is out of range", p.Code)
	}
	return &Refusal{Code: Code(p.Code), Text: p.Text, Hint: p.Hint}
}

func (m *Refusal) toProto() proto.Message { return refusalProto(m) }

func (m *Refusal) fromProto(body []byte) error {
	var p wirepb.Refusal
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = *f.refusal(&p)
	return f.err
}

func (m *Refusal) validate() error {
	if m == nil {
		return nil
	}
	if m.Code == CodeDone {
		return errors.New("a refusal needs a code")
	}
	if err := checkText("text of a refusal", m.Text, MaxRefusalText); err != nil {
		return err
	}
	return checkText("hint of a refusal", m.Hint, MaxRefusalHint)
}
