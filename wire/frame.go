package wire

import (
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
)

// frameHeader is a frame's type (2 bytes) and body length (4 bytes), big-endian.
const frameHeader = 2 + 4

// Append appends m to b as [Stream.Send] sends it, so that several messages and raw
// bytes can go out in one [Stream.Write]: each takes a hand-over to the goroutine
// that makes packets.
func Append(b []byte, m Message) ([]byte, error) { return appendFrame(b, m) }

// appendFrame appends the frame of m to b.
func appendFrame(b []byte, m Message) ([]byte, error) {
	t := m.Type()
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("%v message: %w", t, err)
	}
	start := len(b)
	b = append(b, make([]byte, frameHeader)...)
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m.toProto())
	if err != nil {
		return nil, fmt.Errorf("%v message: %w", t, err)
	}
	length := len(b) - start - frameHeader
	if limit := kinds[t].limit; length > limit {
		return nil, fmt.Errorf("%v message of %d bytes, longer than its limit of %d", t, length, limit)
	}
	binary.BigEndian.PutUint16(b[start:], uint16(t))
	binary.BigEndian.PutUint32(b[start+2:], uint32(length))
	return b, nil
}

// frameReader reads frames and nothing behind them, so that raw bytes may follow.
// It keeps what it has of a frame when the source fails, so that a read that ran
// into a deadline can be repeated.
type frameReader struct {
	header [frameHeader]byte
	have   int // bytes of the header
	body   []byte
	filled int // bytes of the body
	spare  []byte
}

// keepSpare is the largest body buffer that is used again.
const keepSpare = 4 << 10

// next returns the next message. io.EOF means that the source ended between two
// frames, io.ErrUnexpectedEOF that it ended in one. allowed limits the types; nil
// means all.
func (r *frameReader) next(src io.Reader, allowed func(Type) bool) (Message, error) {
	for r.have < frameHeader {
		n, err := src.Read(r.header[r.have:])
		r.have += n
		if r.have == frameHeader {
			break
		}
		if err != nil {
			if err == io.EOF && r.have > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	t := Type(binary.BigEndian.Uint16(r.header[:]))
	length := binary.BigEndian.Uint32(r.header[2:])
	if r.body == nil {
		k, ok := kinds[t]
		switch {
		case !ok:
			return nil, malformed("frame of unknown type %d", uint16(t))
		case allowed != nil && !allowed(t):
			return nil, malformed("%v message where it may not stand", t)
		case uint64(length) > uint64(k.limit):
			return nil, malformed("%v message of %d bytes, longer than its limit of %d", t, length, k.limit)
		}
		r.allocate(int(length))
	}
	for r.filled < int(length) {
		n, err := src.Read(r.body[r.filled:])
		r.filled += n
		if r.filled == int(length) {
			break
		}
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	body := r.body
	r.have, r.filled, r.body = 0, 0, nil
	return decode(t, body)
}

// allocate provides a body buffer. No message keeps a part of it.
func (r *frameReader) allocate(n int) {
	if n > keepSpare {
		r.body = make([]byte, n)
		return
	}
	if r.spare == nil {
		r.spare = make([]byte, keepSpare)
	}
	r.body = r.spare[:n]
}
