package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// MaxSpoolBlock is the longest [SpoolBlock] in bytes.
const MaxSpoolBlock = 1 << 20

// SpoolBlock stands on a spool stream before Length raw bytes: whole frames of a
// spool, which say themselves where they belong. They are not checked here. A block
// of no bytes says that the database has nothing behind what the standby has.
type SpoolBlock struct{ Length uint32 } // 0 … MaxSpoolBlock

// Type implements [Message].
func (*SpoolBlock) Type() Type { return TypeSpoolBlock }

func (m *SpoolBlock) toProto() proto.Message { return &wirepb.SpoolBlock{Length: m.Length} }

func (m *SpoolBlock) fromProto(body []byte) error {
	var p wirepb.SpoolBlock
	if err := parse(body, &p); err != nil {
		return err
	}
	*m = SpoolBlock{Length: p.Length}
	return nil
}

func (m *SpoolBlock) validate() error {
	if m.Length > MaxSpoolBlock {
		return fmt.Errorf("block of %d bytes, want at most %d", m.Length, MaxSpoolBlock)
	}
	return nil
}
