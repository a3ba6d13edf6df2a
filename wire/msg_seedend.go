package wire

import (
	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// SeedEnd says that a base backup is complete.
type SeedEnd struct {
	Bytes  uint64        // of all blocks
	Digest change.Digest // BLAKE3 of them
}

// Type implements [Message].
func (*SeedEnd) Type() Type { return TypeSeedEnd }

func (m *SeedEnd) toProto() proto.Message {
	return &wirepb.SeedEnd{Bytes: m.Bytes, Digest: m.Digest[:]}
}

func (m *SeedEnd) fromProto(body []byte) error {
	var p wirepb.SeedEnd
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = SeedEnd{Bytes: p.Bytes}
	f.fixed("digest", m.Digest[:], p.Digest, false)
	return f.err
}

func (m *SeedEnd) validate() error { return nil }
