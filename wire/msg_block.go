package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// MaxBlock is the longest [Block] in bytes.
const MaxBlock = 1 << 20

// Block stands on a log stream before Length raw bytes of the log.
type Block struct {
	Offset uint64 // log offset of the first byte
	Length uint32 // 1 … MaxBlock
}

// Type implements [Message].
func (*Block) Type() Type { return TypeBlock }

func (m *Block) toProto() proto.Message { return &wirepb.Block{Offset: m.Offset, Length: m.Length} }

func (m *Block) fromProto(body []byte) error {
	var p wirepb.Block
	if err := parse(body, &p); err != nil {
		return err
	}
	*m = Block{Offset: p.Offset, Length: p.Length}
	return nil
}

func (m *Block) validate() error {
	if m.Length == 0 || m.Length > MaxBlock {
		return fmt.Errorf("block of %d bytes, want 1 to %d", m.Length, MaxBlock)
	}
	if m.Offset+uint64(m.Length) < m.Offset {
		return fmt.Errorf("block at offset %d runs over the end of the number space", m.Offset)
	}
	return nil
}
