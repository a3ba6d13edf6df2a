package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// MaxSeedBlock is the longest [SeedBlock] in bytes.
const MaxSeedBlock = 1 << 20

// SeedBlock stands on a seed stream before Length raw bytes of the base backup.
type SeedBlock struct{ Length uint32 } // 1 … MaxSeedBlock

// Type implements [Message].
func (*SeedBlock) Type() Type { return TypeSeedBlock }

func (m *SeedBlock) toProto() proto.Message { return &wirepb.SeedBlock{Length: m.Length} }

func (m *SeedBlock) fromProto(body []byte) error {
	var p wirepb.SeedBlock
	if err := parse(body, &p); err != nil {
		return err
	}
	*m = SeedBlock{Length: p.Length}
	return nil
}

func (m *SeedBlock) validate() error {
	if m.Length == 0 || m.Length > MaxSeedBlock {
		return fmt.Errorf("block of %d bytes, want 1 to %d", m.Length, MaxSeedBlock)
	}
	return nil
}
