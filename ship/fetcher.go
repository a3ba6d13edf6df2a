package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"repld/change"
	"repld/journal"
	"repld/wire"
)

// fetchStreams bounds the fetch streams that are kept open.
const fetchStreams = 8

// Fetcher gets chunks from the primary by digest. It outlives sessions: while
// there is none, calls fail with [change.ErrNoPeer].
type Fetcher struct {
	group string

	mu   sync.Mutex
	conn *wire.Conn
	idle chan *wire.Stream // of conn

	chunks, bytes atomic.Uint64
	buffers       sync.Pool
}

// NewFetcher returns a fetcher without a session.
func NewFetcher(group string) *Fetcher {
	return &Fetcher{group: group, buffers: sync.Pool{New: newBuffers}}
}

// Received returns how many chunks were fetched, and their bytes as received.
func (f *Fetcher) Received() (chunks, bytes uint64) { return f.chunks.Load(), f.bytes.Load() }

func (f *Fetcher) attach(conn *wire.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn, f.idle = conn, make(chan *wire.Stream, fetchStreams)
}

func (f *Fetcher) detach(conn *wire.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn == conn {
		f.conn, f.idle = nil, nil
	}
}

// stream returns a fetch stream of the present session, and where it goes back.
func (f *Fetcher) stream(ctx context.Context) (*wire.Stream, chan *wire.Stream, error) {
	f.mu.Lock()
	conn, idle := f.conn, f.idle
	f.mu.Unlock()
	if conn == nil {
		return nil, nil, change.ErrNoPeer
	}
	select {
	case s := <-idle:
		return s, idle, nil
	default:
	}
	s, err := conn.OpenStream(ctx, &wire.FetchStream{Group: f.group})
	return s, idle, err
}

// Fetch asks for chunks; each gets every one of them once, with its data checked
// against the digest, or nil if the primary no longer has it. The data is valid
// until each returns.
func (f *Fetcher) Fetch(ctx context.Context, digests []change.Digest, each func(change.Digest, []byte) error) error {
	s, idle, err := f.stream(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, s.Cancel)
	defer stop()
	if err := f.fetch(s, digests, each); err != nil {
		s.Cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("fetch chunks from the primary: %w", err)
	}
	if !stop() {
		return ctx.Err()
	}
	select {
	case idle <- s:
	default:
		s.Cancel()
	}
	return nil
}

// fetch has the primary send what stands where the chunks were, so that each is
// hashed once on its way, here. What turns out to be something else, because the
// file has changed or its disk has, the primary is asked for again, and then
// looks for it before it answers.
func (f *Fetcher) fetch(s *wire.Stream, digests []change.Digest, each func(change.Digest, []byte) error) error {
	var differ []change.Digest
	err := f.ask(s, &wire.FetchRequest{Digests: digests, Unchecked: true}, func(d change.Digest, data []byte, err error) error {
		if err != nil {
			differ = append(differ, d)
			return nil
		}
		return each(d, data)
	})
	if err != nil || len(differ) == 0 {
		return err
	}
	return f.ask(s, &wire.FetchRequest{Digests: differ}, func(d change.Digest, data []byte, err error) error {
		if err != nil {
			return errors.Join(errors.New("the primary sent a damaged chunk"), err)
		}
		return each(d, data)
	})
}

// ask sends a request and calls each for every answer, with an error if its data
// isn't the chunk.
func (f *Fetcher) ask(s *wire.Stream, request *wire.FetchRequest, each func(change.Digest, []byte, error) error) error {
	if err := s.Send(request); err != nil {
		return err
	}
	buffers := f.buffers.Get().(*buffers)
	defer f.buffers.Put(buffers)
	for range request.Digests {
		msg, err := s.Receive()
		if err != nil {
			return err
		}
		m, ok := msg.(*wire.FetchedChunk)
		if !ok {
			return fmt.Errorf("the primary answered with %v", msg.Type())
		}
		if m.Gone {
			if err := each(m.Digest, nil, nil); err != nil {
				return err
			}
			continue
		}
		encoded := buffers.encoded[:m.Length]
		if _, err := io.ReadFull(s, encoded); err != nil {
			return err
		}
		f.chunks.Add(1)
		f.bytes.Add(uint64(m.Length))
		chunk := change.Chunk{Digest: m.Digest, Codec: m.Codec, RawLen: m.RawLength, Data: encoded}
		data, err := journal.DecodeChunk(buffers.decoded[:0], &chunk)
		if err := each(m.Digest, data, err); err != nil {
			return err
		}
	}
	return nil
}

// buffers are for one chunk on its way.
type buffers struct{ encoded, decoded []byte }

func newBuffers() any {
	return &buffers{make([]byte, change.ChunkMax), make([]byte, change.ChunkMax)}
}

// current returns the present session's connection, nil if there is none.
func (f *Fetcher) current() *wire.Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conn
}
