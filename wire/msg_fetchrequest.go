package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// MaxFetch is the largest number of digests in one [FetchRequest].
const MaxFetch = 512

// FetchRequest asks for chunks.
type FetchRequest struct {
	Digests []change.Digest // 1 … MaxFetch, none of them zero
	// Unchecked says that the asker compares the digests and asks again, without it,
	// for what differs: the answer may be what stands where the chunk was. A primary
	// that doesn't know the field checks.
	Unchecked bool
}

// Type implements [Message].
func (*FetchRequest) Type() Type { return TypeFetchRequest }

func (m *FetchRequest) toProto() proto.Message {
	b := make([]byte, 0, len(m.Digests)*change.DigestSize)
	for i := range m.Digests {
		b = append(b, m.Digests[i][:]...)
	}
	return &wirepb.FetchRequest{Digests: b, Unchecked: m.Unchecked}
}

func (m *FetchRequest) fromProto(body []byte) error {
	var p wirepb.FetchRequest
	if err := parse(body, &p); err != nil {
		return err
	}
	if len(p.Digests)%change.DigestSize != 0 {
		return fmt.Errorf("digests of %d bytes, want a multiple of %d", len(p.Digests), change.DigestSize)
	}
	m.Unchecked = p.Unchecked
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
