package wire

import (
	"context"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// Stream is one bidirectional stream of a connection. Messages and raw bytes may
// alternate as the two sides agree: [Stream.Receive] never reads beyond its
// message. One goroutine may send while another receives; Cancel and SetDeadline
// may be called by any.
//
// A stream takes memory on both sides until it has ended both ways: call
// CloseWrite and read to io.EOF, or call Cancel.
type Stream struct {
	quic   *quic.Stream
	reader frameReader

	sendMu sync.Mutex
	buffer []byte
}

// streamCanceled is the code with which streams are given up. There is only one,
// reasons are sent as [Refusal].
const streamCanceled quic.StreamErrorCode = 1

// Send writes m. It blocks while the peer doesn't read (flow control). An error
// that isn't m's own fault ends the stream.
func (s *Stream) Send(m Message) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	b, err := appendFrame(s.buffer[:0], m)
	if err != nil {
		return err
	}
	if cap(b) <= keepSpare {
		s.buffer = b
	}
	_, err = s.quic.Write(b)
	return translate(err)
}

// Receive reads the next message. io.EOF says that the peer has closed its side
// after the last one. A [Refusal] is returned as its [*RefusedError]. After a
// deadline has passed it can be called again and goes on where it was.
func (s *Stream) Receive() (Message, error) {
	m, err := s.reader.next(s.quic, nil)
	if err != nil {
		return nil, translate(err)
	}
	if r, ok := m.(*Refusal); ok {
		return nil, r.Err()
	}
	return m, nil
}

// Read reads raw bytes, as [io.Reader].
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.quic.Read(p)
	return n, translate(err)
}

// Write writes raw bytes, as [io.Writer]. It returns when p may be used again,
// which is not when the peer has it.
func (s *Stream) Write(p []byte) (int, error) {
	n, err := s.quic.Write(p)
	return n, translate(err)
}

// Refuse sends err as a [Refusal] and closes this side of the stream.
func (s *Stream) Refuse(err error) error {
	if err := s.Send(RefusalOf(err)); err != nil {
		return err
	}
	return s.CloseWrite()
}

// CloseWrite says that nothing more follows; the peer reads io.EOF after what was
// written. It must not be called while Write or Send are under way.
func (s *Stream) CloseWrite() error { return translate(s.quic.Close()) }

// Cancel gives the stream up in both directions. What was written and not yet
// received is lost; the peer's calls end with [ErrCanceled], this side's with
// [context.Canceled]. It does nothing to a stream that has ended.
func (s *Stream) Cancel() {
	s.quic.CancelRead(streamCanceled)
	s.quic.CancelWrite(streamCanceled)
}

// SetDeadline bounds the present and all later calls of either direction; they
// then fail with an error that is [os.ErrDeadlineExceeded]. The zero time means
// none.
func (s *Stream) SetDeadline(t time.Time) error { return s.quic.SetDeadline(t) }

// Context ends when the stream's sending side has ended, or with the connection.
func (s *Stream) Context() context.Context { return s.quic.Context() }
