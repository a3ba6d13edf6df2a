package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// FetchedChunk answers one digest of a [FetchRequest] and stands before Length
// raw bytes, the chunk as encoded by Codec. They are not checked here against the
// digest or RawLength.
type FetchedChunk struct {
	Digest    change.Digest
	Codec     change.Codec
	RawLength uint32 // decoded, 1 … change.ChunkMax
	Length    uint32 // as sent, 1 … RawLength
	Gone      bool   // the peer doesn't have the chunk (any more); the rest is zero
}

// Type implements [Message].
func (*FetchedChunk) Type() Type { return TypeFetchedChunk }

func (m *FetchedChunk) toProto() proto.Message {
	return &wirepb.FetchedChunk{Digest: m.Digest[:], Codec: uint32(m.Codec), RawLength: m.RawLength, Length: m.Length, Gone: m.Gone}
}

func (m *FetchedChunk) fromProto(body []byte) error {
	var p wirepb.FetchedChunk
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = FetchedChunk{Codec: change.Codec(f.byteNumber("codec", p.Codec)), RawLength: p.RawLength, Length: p.Length, Gone: p.Gone}
	f.fixed("digest", m.Digest[:], p.Digest, false)
	return f.err
}

func (m *FetchedChunk) validate() error {
	switch {
	case m.Digest.IsZero():
		return errors.New("a zero digest")
	case m.Gone:
		if m.Codec != 0 || m.RawLength != 0 || m.Length != 0 {
			return errors.New("a chunk that is gone, with data")
		}
	case !m.Codec.Valid():
		return fmt.Errorf("codec %d is unknown", m.Codec)
	case m.RawLength == 0 || m.RawLength > change.ChunkMax:
		return fmt.Errorf("chunk of %d bytes, want 1 to %d", m.RawLength, change.ChunkMax)
	case m.Length == 0 || m.Length > m.RawLength:
		return fmt.Errorf("%d encoded bytes for %d, want 1 to %d", m.Length, m.RawLength, m.RawLength)
	case m.Codec == change.CodecRaw && m.Length != m.RawLength:
		return fmt.Errorf("%d uncompressed bytes for %d", m.Length, m.RawLength)
	}
	return nil
}
