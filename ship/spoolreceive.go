package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"repld/change"
	"repld/dblog/spool"
	"repld/wire"
)

// receiveSpool appends what comes on a database's stream, whose errors don't end the
// session.
func (s *receiving) receiveSpool(ctx context.Context, stream *wire.Stream, m *wire.SpoolStream) {
	q := s.database(m.Database)
	if q == nil {
		if stream.Refuse(refusalFor(spoolError(m.Database, ErrNotHeld))) == nil {
			drain(stream)
		}
		return
	}
	sp := q.take(m.Call, stream)
	if sp == nil {
		return
	}
	err := s.appendSpool(ctx, q, sp, stream)
	if ctx.Err() != nil || !q.is(stream) {
		return
	}
	var local *localError
	switch e := refused(q.Name, err); {
	case e != nil:
		if needsSeed(e) {
			q.mu.Lock()
			q.agreed = false
			q.mu.Unlock()
		}
		q.failure.set(e)
	case errors.As(err, &local):
		q.fail(local.err)
		drain(stream)
	}
}

// localError is what goes wrong on this node while a stream is received.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }

// drain reads until the other side has seen our refusal.
func drain(stream *wire.Stream) {
	_ = stream.SetDeadline(time.Now().Add(refusalTimeout))
	_, _ = io.Copy(io.Discard, stream)
}

const refusalTimeout = 5 * time.Second

func (s *receiving) appendSpool(ctx context.Context, q *inSpool, sp *spool.Spool, stream *wire.Stream) error {
	buf := make([]byte, wire.MaxSpoolBlock)
	for {
		msg, err := stream.Receive()
		if err != nil {
			return err
		}
		m, ok := msg.(*wire.SpoolBlock)
		if !ok {
			return &localError{fmt.Errorf("the primary sent %v on the stream of a database", msg.Type())}
		}
		block := buf[:m.Length]
		if _, err := io.ReadFull(stream, block); err != nil {
			return err
		}
		if err := s.spoolRoom(ctx, q, sp); err != nil {
			return &localError{err}
		}
		if err := q.append(sp, stream, block); err != nil {
			return &localError{err}
		}
		if sp.End().IsZero() {
			continue // a chapter without a byte: nothing is agreed yet
		}
		if q.agree() {
			s.spoolFlushed()
		}
	}
}

// spoolRoom waits while the spool is at its limit, or the disk short of space, unless
// nothing can free it but a barrier that needs more of the stream.
func (s *receiving) spoolRoom(ctx context.Context, q *inSpool, sp *spool.Spool) error {
	for s.opts.Short() || sp.Bytes() >= sp.Limit() && !s.needed(q, sp) {
		wait, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		err := sp.WaitRoom(wait)
		if err == nil {
			<-wait.Done() // the disk is short
		}
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if !s.opts.Short() && sp.Bytes() < sp.Limit() {
			return nil
		}
	}
	return nil
}

// needed reports whether a barrier in the log waits for more of a stream, while none
// is left to be applied.
func (r *Receiver) needed(q *inSpool, sp *spool.Spool) bool {
	if r.applying() {
		return false
	}
	end := sp.End()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.waiting {
		for _, d := range r.waiting[i].Databases {
			if d.Name == q.Name && end.Before(d.Position) {
				return true
			}
		}
	}
	return false
}

// flushSpool makes durable what comes into a spool, all that came meanwhile at once.
func (s *receiving) flushSpool(ctx context.Context, q *inSpool) error {
	for {
		sp, replaced := q.current()
		waiting, cancel := context.WithCancel(ctx)
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			select {
			case <-replaced:
			case <-stop:
			}
			cancel()
		}()
		err := s.flushFrom(waiting, sp)
		close(stop)
		<-done
		if ctx.Err() != nil {
			return ctx.Err()
		}
		select {
		case <-replaced:
			continue
		default:
		}
		q.fail(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-replaced:
		}
	}
}

// A stream of spoolMuch bytes in spoolGather is one that has fallen behind. It is synced
// that seldom, so that its time isn't spent on hundreds of syncs; what comes slower, for
// which a commit may wait, is synced at once.
const (
	spoolMuch   = 512 << 10
	spoolGather = 5 * time.Millisecond
)

// flushFrom syncs a spool whenever something came, until ctx ends or it fails.
func (s *receiving) flushFrom(ctx context.Context, sp *spool.Spool) error {
	gather := time.NewTimer(0)
	defer gather.Stop()
	begun := time.Now()
	for {
		before := sp.Durable()
		if err := sp.WaitFor(ctx, before); err != nil {
			return err
		}
		if err := sp.Sync(); err != nil {
			return err
		}
		after := sp.Durable()
		if after == before && before.Before(sp.End()) {
			return errors.New("the spool makes nothing durable: on a standby it must not be volatile")
		}
		s.spoolFlushed()
		much := muchCame(before, after, time.Since(begun))
		begun = time.Now()
		if much {
			gather.Reset(spoolGather)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-gather.C:
			}
		}
	}
}

// muchCame reports whether a stream has moved as one does that has fallen behind.
func muchCame(before, after change.StreamPosition, within time.Duration) bool {
	if before.Chapter != after.Chapter || after.Offset < before.Offset {
		return false
	}
	return after.Offset-before.Offset >= spoolMuch*uint64(max(within, spoolGather/8))/uint64(spoolGather)
}

func (r *Receiver) spoolFlushed() {
	select {
	case r.flushed <- struct{}{}:
	default:
	}
}

// database returns the database of that name, nil if there is none.
func (r *Receiver) database(name string) *inSpool {
	for _, q := range r.spools {
		if q.Name == name {
			return q
		}
	}
	return nil
}

// ResumeSpool says that a database's spool was opened anew, as sp, or reset; nil means
// the same one. The stream goes on from its end, now or with the next session.
func (r *Receiver) ResumeSpool(ctx context.Context, database string, sp *spool.Spool) error {
	q := r.database(database)
	if q == nil {
		return fmt.Errorf("database %q: %w", database, ErrNotHeld)
	}
	q.writing.Lock()
	q.mu.Lock()
	if sp != nil {
		q.spool = sp
	}
	close(q.replaced)
	q.replaced = make(chan struct{})
	q.mu.Unlock()
	m := q.request()
	q.writing.Unlock()
	r.spoolFlushed()
	conn := r.opts.Fetcher.current()
	if conn == nil {
		return nil
	}
	return conn.Send(ctx, &wire.SpoolResume{Group: r.opts.Group, Spool: m})
}
