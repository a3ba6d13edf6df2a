package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// MaxStreams is the number of parallel streams that a group's log may use.
const MaxStreams = 16

// LogStream opens a stream that carries blocks of a group's log.
type LogStream struct {
	Group string
	Index uint32 // of this stream among the parallel ones, 0 … MaxStreams-1
}

// Type implements [Message].
func (*LogStream) Type() Type { return TypeLogStream }

func (m *LogStream) toProto() proto.Message {
	return &wirepb.LogStream{Group: m.Group, Index: m.Index}
}

func (m *LogStream) fromProto(body []byte) error {
	var p wirepb.LogStream
	if err := parse(body, &p); err != nil {
		return err
	}
	*m = LogStream{Group: p.Group, Index: p.Index}
	return nil
}

func (m *LogStream) validate() error {
	if m.Index >= MaxStreams {
		return fmt.Errorf("stream index %d, there may be %d", m.Index, MaxStreams)
	}
	return checkName("group", m.Group)
}
