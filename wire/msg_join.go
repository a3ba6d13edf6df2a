package wire

import (
	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// Join redeems an invitation. The dialer sends it after Hello; [Dial] and
// [Listener] exchange it, no other code sees it.
type Join struct {
	Secret  [SecretSize]byte
	Address string // host:port where the joining node can be reached, "" if it can't
}

// Type implements [Message].
func (*Join) Type() Type { return TypeJoin }

func (m *Join) toProto() proto.Message { return &wirepb.Join{Secret: m.Secret[:], Address: m.Address} }

func (m *Join) fromProto(body []byte) error {
	var p wirepb.Join
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = Join{Address: p.Address}
	f.fixed("secret", m.Secret[:], p.Secret, false)
	return f.err
}

func (m *Join) validate() error { return checkText("address", m.Address, maxAddress) }
