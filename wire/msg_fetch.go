package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/change"
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

// MaxFetch is the largest number of digests in one [FetchRequest].
const MaxFetch = 512

// FetchRequest asks for chunks.
type FetchRequest struct{ Digests []change.Digest } // 1 … MaxFetch, none of them zero

// Type implements [Message].
func (*FetchRequest) Type() Type { return TypeFetchRequest }

func (m *FetchRequest) toProto() proto.Message {
	b := make([]byte, 0, len(m.Digests)*change.DigestSize)
	for i := range m.Digests {
		b = append(b, m.Digests[i][:]...)
	}
	return &wirepb.FetchRequest{Digests: b}
}

func (m *FetchRequest) fromProto(body []byte) error {
	var p wirepb.FetchRequest
	if err := parse(body, &p); err != nil {
		return err
	}
	if len(p.Digests)%change.DigestSize != 0 {
		return fmt.Errorf("digests of %d bytes, want a multiple of %d", len(p.Digests), change.DigestSize)
	}
	m.Digests = make([]change.Digest, len(p.Digests)/change.DigestSize)
	for i := range m.Digests {
		copy(m.Digests[i][:], p.Digests[i*change.DigestSize:])
	}
	return nil
}

func (m *FetchRequest) validate() error {
	if len(m.Digests) == 0 || len(m.Digests) > MaxFetch {
		return fmt.Errorf("%d digests, want 1 to %d", len(m.Digests), MaxFetch)
	}
	for _, d := range m.Digests {
		if d.IsZero() {
			return errors.New("a zero digest")
		}
	}
	return nil
}

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
