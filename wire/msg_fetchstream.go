package wire

import (
	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// FetchStream opens a stream on which chunks are asked for by digest: any number
// of [FetchRequest] one way, and the other way, in the order asked for, one
// [FetchedChunk] for each digest. Requests may be sent before the answers to
// earlier ones have come.
type FetchStream struct{ Group string }

// Type implements [Message].
func (*FetchStream) Type() Type { return TypeFetchStream }

func (m *FetchStream) toProto() proto.Message { return &wirepb.FetchStream{Group: m.Group} }

func (m *FetchStream) fromProto(body []byte) error {
	var p wirepb.FetchStream
	if err := parse(body, &p); err != nil {
		return err
	}
	*m = FetchStream{Group: p.Group}
	return nil
}

func (m *FetchStream) validate() error { return checkName("group", m.Group) }
