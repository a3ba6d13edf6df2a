package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/blake3"

	"repld/wire"
)

// SeedDatabase gets what a replica of a database is made from, and hands it to read.
// When its first bytes come, the database's spool is emptied and its stream begins
// anew, so that the spool holds what follows the backup. It returns nil only after read
// did and everything has come with the digest that the primary gave. read need not read
// to the end.
func (r *Receiver) SeedDatabase(ctx context.Context, database string, read func(io.Reader) error) error {
	q := r.database(database)
	if q == nil {
		return fmt.Errorf("database %q: %w", database, ErrNotHeld)
	}
	conn := r.opts.Fetcher.current()
	if conn == nil {
		return ErrNoSession
	}
	if !q.beginSeed() {
		return fmt.Errorf("database %q is being seeded already", database)
	}
	defer q.endSeed()
	stream, err := conn.OpenStream(ctx, &wire.SeedStream{Group: r.opts.Group, Database: database})
	if err != nil {
		return errors.Join(ErrNoSession, err)
	}
	defer stream.Cancel()
	defer context.AfterFunc(ctx, stream.Cancel)()
	in := &seedReader{name: database, stream: stream, digest: blake3.New(), begun: func() error { return r.beginAnew(ctx, q) }}
	if err = read(in); err == nil {
		_, err = io.Copy(io.Discard, in)
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil && in.bytes == 0 {
		// Nothing has changed here: the stream goes on as before, if it can.
		return errors.Join(err, r.ResumeSpool(context.WithoutCancel(ctx), database, nil))
	}
	return err
}

func (q *inSpool) beginSeed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.seeding {
		return false
	}
	q.seeding = true
	return true
}

func (q *inSpool) endSeed() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seeding = false
}

// beginAnew empties a spool and asks for the stream from its beginning.
func (r *Receiver) beginAnew(ctx context.Context, q *inSpool) error {
	q.writing.Lock()
	q.mu.Lock()
	q.drop()
	sp := q.spool
	q.anew = true
	q.mu.Unlock()
	err := sp.Reset()
	q.writing.Unlock()
	if err != nil {
		return err
	}
	q.distrust(0) // its barriers are of the replica of the time before
	return r.ResumeSpool(ctx, q.Name, nil)
}

// seedReader reads a base backup. It returns io.EOF only after the digest was right.
type seedReader struct {
	name   string
	stream *wire.Stream
	digest *blake3.Hasher
	begun  func() error // called with the first bytes
	bytes  uint64
	block  int // bytes of the present message that are still to come
	err    error
}

func (r *seedReader) Read(p []byte) (int, error) {
	for r.block == 0 && r.err == nil {
		r.err = r.next()
	}
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.stream.Read(p[:min(len(p), r.block)])
	_, _ = r.digest.Write(p[:n]) // never fails
	r.bytes += uint64(n)
	r.block -= n
	if err != nil {
		r.err = cutShort(err)
	}
	return n, r.err
}

// cutShort turns the end of a stream into an error.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("receive a base backup: %w", err)
}

// next reads the next message.
func (r *seedReader) next() error {
	msg, err := r.stream.Receive()
	if e := refused(r.name, err); e != nil {
		return e
	}
	if err != nil {
		return cutShort(err)
	}
	switch m := msg.(type) {
	case *wire.SeedBlock:
		r.block = int(m.Length)
		if r.bytes == 0 {
			return r.begun()
		}
		return nil
	case *wire.SeedEnd:
		if sum := r.digest.Sum(nil); m.Bytes != r.bytes || !bytes.Equal(sum, m.Digest[:]) {
			return fmt.Errorf("the base backup is damaged: %d bytes with digest %x came, want %d with %x", r.bytes, sum, m.Bytes, m.Digest[:])
		}
		return io.EOF
	}
	return fmt.Errorf("the primary sent %v in a base backup", msg.Type())
}
