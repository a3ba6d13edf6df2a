package ship

import (
	"context"

	"github.com/zeebo/blake3"

	"repld/wire"
)

// serveSeed sends what a replica of a database is made from. Its errors are the
// standby's to deal with; they don't end the session.
func (s *sending) serveSeed(ctx context.Context, stream *wire.Stream, m *wire.SeedStream) {
	refuse := func(e *SpoolError) {
		if stream.Refuse(refusalFor(e)) == nil {
			_, _ = stream.Receive() // it must arrive before the stream is given up
		}
	}
	q := s.database(m.Database)
	if q == nil || q.Backup == nil {
		refuse(spoolError(m.Database, ErrNotHeld))
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Nothing is to be sent of the database that a replica of the time before needs.
	stopped := make(chan struct{})
	if q.ask(ctx, spoolRequest{stopped: stopped}) != nil {
		return
	}
	select {
	case <-stopped:
	case <-ctx.Done():
		return
	}
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		defer cancel()
		_, _ = stream.Receive() // it sends nothing: it has given up, or all has arrived
	}()
	defer func() { stream.Cancel(); <-listening }()
	w := &seedWriter{ctx: ctx, s: s, stream: stream, digest: blake3.New()}
	err := q.Backup(ctx, w)
	if err == nil {
		err = w.end()
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.opts.Logger.Warn("a database's base backup failed", "group", s.opts.Group, "database", q.Name, "error", err)
		if stream.Refuse(refusalFor(spoolError(q.Name, err))) != nil {
			return
		}
	} else if stream.CloseWrite() != nil {
		return
	}
	<-ctx.Done()
}

// seedWriter packs a base backup into messages.
type seedWriter struct {
	ctx    context.Context
	s      *sending
	stream *wire.Stream
	digest *blake3.Hasher
	bytes  uint64
	out    []byte
}

// seedBlock is how many bytes of a base backup are sent at a time.
const seedBlock = 256 << 10

// Write sends p at once: what a database says of itself at the end of its backup isn't
// to wait for more.
func (w *seedWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		b := p[done:min(len(p), done+seedBlock)]
		if err := w.s.yield(w.ctx, len(b)); err != nil {
			return done, err
		}
		var err error
		if w.out, err = wire.Append(w.out[:0], &wire.SeedBlock{Length: uint32(len(b))}); err != nil {
			return done, err
		}
		w.out = append(w.out, b...)
		if _, err := w.stream.Write(w.out); err != nil {
			return done, err
		}
		_, _ = w.digest.Write(b) // never fails
		w.bytes += uint64(len(b))
		done += len(b)
	}
	return done, nil
}

// end sends the trailer.
func (w *seedWriter) end() error {
	m := &wire.SeedEnd{Bytes: w.bytes}
	copy(m.Digest[:], w.digest.Sum(nil))
	return w.stream.Send(m)
}
