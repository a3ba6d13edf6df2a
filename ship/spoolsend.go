package ship

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/dblog/spool"
	"repld/wire"
)

// spoolRequest asks for an outSpool's stream, or for its end.
type spoolRequest struct {
	wire.SpoolEnd
	stopped chan struct{} // not nil: no stream is wanted; it is closed when there is none
}

// spooling is an outSpool in a session.
type spooling struct {
	*outSpool
	s        *sending
	requests chan spoolRequest
	piece    []byte // of sendBlock, to be used again
}

// ask hands a request to run.
func (q *spooling) ask(ctx context.Context, r spoolRequest) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case q.requests <- r:
		return nil
	}
}

// run answers requests for the stream, the newest one.
func (q *spooling) run(ctx context.Context) error {
	stop := func() {}
	defer func() { stop() }()
	var newest uint64 // call
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-q.requests:
			if r.stopped == nil && r.Call <= newest {
				continue // it was overtaken
			}
			newest = max(newest, r.Call)
			stop()
			q.begin(r.SpoolEnd)
			if r.stopped != nil {
				close(r.stopped)
				stop = func() {}
				continue
			}
			answering, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			go func() {
				defer close(done)
				q.answer(answering, r.SpoolEnd)
			}()
			stop = func() { cancel(); <-done }
		}
	}
}

// How long to wait before Ship is begun again after an error.
const (
	shipAgainFirst = 250 * time.Millisecond
	shipAgainMost  = 5 * time.Second
)

// answer sends the stream until ctx ends, the standby wants no more, or it can't go on.
func (q *spooling) answer(ctx context.Context, m wire.SpoolEnd) {
	log := q.s.opts.Logger.With("group", q.s.opts.Group, "database", q.Name)
	stream, err := q.s.conn.OpenStream(ctx, &wire.SpoolStream{Group: q.s.opts.Group, Database: q.Name, Call: m.Call})
	if err != nil {
		return
	}
	defer stream.Cancel()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, stream.Cancel)()
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		defer cancel()
		_, err := stream.Receive()
		if e := refused(q.Name, err); e != nil && ctx.Err() == nil {
			q.refused(m.Call, e)
		}
	}()
	defer func() { stream.Cancel(); <-listening }()
	log.Debug("a database's stream goes on", "from", m.End)
	wait := shipAgainFirst
	for from := m.End; ; {
		begun := time.Now()
		next, err := q.attempt(ctx, stream, from)
		if ctx.Err() != nil {
			return
		}
		if needsSeed(err) || errors.Is(err, spool.ErrFailed) || errors.Is(err, spool.ErrClosed) {
			e := spoolError(q.Name, err)
			q.failure.set(e)
			if stream.Refuse(refusalFor(e)) == nil {
				<-ctx.Done() // it must arrive before the stream is given up
			}
			return
		}
		if next != from || time.Since(begun) > shipAgainMost {
			wait = shipAgainFirst
		}
		log.Warn("a database's stream stopped and is begun again", "at", next, "error", err, "in", wait)
		from = next
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, shipAgainMost)
	}
}

// attempt has Ship fill the spool and sends what it holds, until either breaks. It
// returns up to where the stream was sent.
func (q *spooling) attempt(ctx context.Context, stream *wire.Stream, from change.StreamPosition) (change.StreamPosition, error) {
	// What an earlier attempt left may not be what the database says now.
	if err := q.Spool.Reset(); err != nil {
		return from, err
	}
	at := from
	ended := make(chan struct{})
	g, ctx := errgroup.WithContext(ctx)
	var shipped error
	shipping, stop := context.WithCancel(ctx)
	defer stop()
	g.Go(func() error {
		defer close(ended)
		shipped = q.Ship(shipping, from)
		return nil // what it left in the spool is still to be sent
	})
	g.Go(func() error {
		defer stop()
		var err error
		at, err = q.send(ctx, stream, from, ended)
		return err
	})
	err := g.Wait()
	if at.Before(from) {
		at = from
	}
	if needsSeed(shipped) || err == nil {
		err = shipped
	}
	if err == nil {
		err = errors.New("it ended without an error")
	}
	return at, err
}

// send sends what the spool holds behind a position, until Ship has ended and nothing
// is left.
func (q *spooling) send(ctx context.Context, stream *wire.Stream, from change.StreamPosition, ended <-chan struct{}) (change.StreamPosition, error) {
	at := from
	if !q.await(ctx, change.StreamPosition{}, ended, q.idle(stream, from)) {
		return at, ctx.Err()
	}
	// The standby has the chapter that it is in. Of that, Ship's first bytes may lie
	// before its end: they are compared there.
	if start := q.Spool.Start(); !from.IsZero() && start.Chapter == from.Chapter {
		at = start
	} else {
		at = change.StreamPosition{}
	}
	buf := make([]byte, 2*spool.MaxFrame)
	first := q.s.priority
	first.begin()
	defer first.end()
	for {
		n, next, err := q.Spool.ReadRaw(buf, at)
		if errors.Is(err, io.EOF) {
			first.end()
			came := q.await(ctx, at, ended, nil)
			first.begin()
			if !came {
				return at, ctx.Err()
			}
			continue
		}
		if err != nil {
			return at, err
		}
		q.sentTo(next) // it may arrive though writing fails
		if err := q.sendBlock(ctx, stream, buf[:n]); err != nil {
			return at, err
		}
		at = next
	}
}

// await returns true when the spool holds something behind at, false if nothing will
// come. idle is called after a while.
func (q *spooling) await(ctx context.Context, at change.StreamPosition, ended <-chan struct{}, idle func()) bool {
	for {
		wait, cancel := context.WithCancel(ctx)
		stop := make(chan struct{})
		done := make(chan struct{})
		var timer <-chan time.Time
		if idle != nil {
			timer = time.After(idleAfter)
		}
		quiet := false
		go func() {
			defer close(done)
			select {
			case <-ended:
			case <-timer:
				quiet = true
			case <-stop:
			}
			cancel()
		}()
		err := q.Spool.WaitFor(wait, at)
		close(stop)
		<-done
		if err == nil {
			return true
		}
		if ctx.Err() != nil || !quiet {
			return !q.Spool.End().IsZero() && at.Before(q.Spool.End()) && ctx.Err() == nil
		}
		idle()
		idle = nil
	}
}

// idleAfter is how long Ship has to bring something to compare with what the standby
// has. A database that has nothing to say is taken for the same then.
const idleAfter = time.Second

// idle says that there is nothing behind what the standby has. A standby that has
// nothing learns nothing by that.
func (q *spooling) idle(stream *wire.Stream, from change.StreamPosition) func() {
	if from.IsZero() {
		return nil
	}
	return func() { _ = stream.Send(&wire.SpoolBlock{}) }
}

// sendBlock sends whole frames, before any file's data. Their message goes with the
// first of them.
func (q *spooling) sendBlock(ctx context.Context, stream *wire.Stream, block []byte) error {
	first, err := wire.Append(q.piece[:0], &wire.SpoolBlock{Length: uint32(len(block))})
	if err != nil {
		return err
	}
	n := min(len(block), spoolPiece-len(first))
	first = append(first, block[:n]...)
	q.piece = first
	for piece, rest := first, block[n:]; len(piece) > 0; {
		if err := q.s.pace(ctx, len(piece)); err != nil {
			return err
		}
		if _, err := stream.Write(piece); err != nil {
			return err
		}
		q.s.priority.wrote(len(piece))
		n = min(len(rest), spoolPiece)
		piece, rest = rest[:n], rest[n:]
	}
	return nil
}

// startSpools begins the streams that the standby asks for at the start of a session.
func (s *sending) startSpools(ctx context.Context, ends []wire.SpoolEnd) error {
	for _, end := range ends {
		if err := s.startSpool(ctx, end); err != nil {
			return err
		}
	}
	if s.named { // a second Resume is about the log only
		return nil
	}
	s.named = true
	for _, q := range s.spooling {
		if !slices.ContainsFunc(ends, func(e wire.SpoolEnd) bool { return e.Database == q.Name }) {
			q.failure.set(&SpoolError{Database: q.Name, Peer: true, Err: ErrNotHeld})
		}
	}
	return nil
}

func (s *sending) startSpool(ctx context.Context, end wire.SpoolEnd) error {
	if q := s.database(end.Database); q != nil {
		return q.ask(ctx, spoolRequest{SpoolEnd: end})
	}
	s.opts.Logger.Warn("the standby asks for a database that isn't configured here", "group", s.opts.Group, "database", end.Database)
	return nil
}

// database returns the database of that name, nil if there is none.
func (s *sending) database(name string) *spooling {
	for _, q := range s.spooling {
		if q.Name == name {
			return q
		}
	}
	return nil
}

// acknowledge tells the databases what the standby has of them.
func (s *sending) acknowledge(m *wire.Progress) error {
	for i := range m.Spools {
		if q := s.database(m.Spools[i].Database); q != nil {
			if err := q.acknowledge(&m.Spools[i]); err != nil && !errors.Is(err, spool.ErrFailed) && !errors.Is(err, spool.ErrClosed) {
				return err
			}
		}
	}
	return nil
}
