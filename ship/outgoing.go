package ship

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/journal"
	"repld/wire"
)

// span is a piece of the log to be sent as one block.
type span struct {
	offset      uint64
	length      int
	incarnation journal.Incarnation
}

// pollEvery bounds how late bytes that nobody announced are noticed.
const pollEvery = 50 * time.Millisecond

// syncAt is how many bytes of log may wait for a barrier's sync before the sender
// makes them durable itself, so that they can be on their way before the barrier.
const syncAt = 1 << 20

// sendLog sends the log in blocks on parallel streams, each block on the next
// stream that is free.
func (s *sending) sendLog(ctx context.Context) error {
	var from change.LogPosition
	select {
	case <-ctx.Done():
		return ctx.Err()
	case from = <-s.starts:
	}
	g, ctx := errgroup.WithContext(ctx)
	spans := make(chan span)
	g.Go(func() error { return s.cutLog(ctx, from.Offset, spans) })
	for i := range s.opts.Streams {
		g.Go(func() error { return s.sendBlocks(ctx, uint32(i), spans) })
	}
	return g.Wait()
}

// cutLog cuts the log from offset on into blocks, as far as it may be sent.
func (s *sending) cutLog(ctx context.Context, offset uint64, spans chan<- span) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	var sent change.IncarnationID // of the bytes before offset, if any were sent
	for {
		if err := s.parted(sent, offset); err != nil {
			return err
		}
		limit := min(s.opts.Log.Durable().Offset, s.opts.Capture.Shippable())
		if offset < limit {
			next := s.next(offset, limit)
			if next.incarnation.ID != sent && sent != (change.IncarnationID{}) && next.incarnation.Start != offset {
				return errParted // just now
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case spans <- next:
			}
			offset += uint64(next.length)
			sent = next.incarnation.ID
			continue
		}
		if end := s.opts.Log.End().Offset; end >= limit+syncAt && s.opts.Capture.Shippable() > limit {
			if err := s.opts.Log.Sync(); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.news:
		case <-ticker.C:
		}
	}
}

// errParted ends a session whose log was cut back behind what was sent: the next
// one finds out where both logs still agree.
var errParted = errors.New("the log was cut back behind what was sent; the session begins anew")

// parted reports whether the log was cut back before offset since the bytes there
// were sent.
func (s *sending) parted(sent change.IncarnationID, offset uint64) error {
	if sent == (change.IncarnationID{}) {
		return nil
	}
	if offset > s.opts.Log.End().Offset {
		return errParted
	}
	var before change.IncarnationID
	for _, in := range s.opts.Log.Incarnations() {
		if in.Start < offset {
			before = in.ID
		}
	}
	if before != sent {
		return errParted
	}
	return nil
}

// next returns the block at offset, which never spans two incarnations.
func (s *sending) next(offset, limit uint64) span {
	list := s.opts.Log.Incarnations()
	end := min(limit, offset+wire.MaxBlock)
	sp := span{offset: offset}
	for _, in := range list {
		if in.Start <= offset {
			sp.incarnation = in
			continue
		}
		end = min(end, in.Start)
		break
	}
	sp.length = int(end - offset)
	return sp
}

// sendBlocks sends spans on one stream.
func (s *sending) sendBlocks(ctx context.Context, index uint32, spans <-chan span) error {
	var stream *wire.Stream // opened with the first block: an idle group needs one
	defer func() {
		if stream != nil {
			stream.Cancel()
		}
	}()
	buf := make([]byte, wire.MaxBlock)
	var announced change.IncarnationID
	for {
		var sp span
		select {
		case <-ctx.Done():
			return ctx.Err()
		case sp = <-spans:
		}
		if stream == nil {
			var err error
			if stream, err = s.conn.OpenStream(ctx, &wire.LogStream{Group: s.opts.Group, Index: index}); err != nil {
				return err
			}
		}
		if sp.incarnation.ID != announced {
			announced = sp.incarnation.ID
			if err := stream.Send(&wire.Incarnation{Group: s.opts.Group, Incarnation: announced, Start: sp.incarnation.Start}); err != nil {
				return err
			}
		}
		if err := s.sendBlock(ctx, stream, buf[:sp.length], sp.offset); err != nil {
			return err
		}
	}
}

func (s *sending) sendBlock(ctx context.Context, stream *wire.Stream, block []byte, offset uint64) error {
	for done := 0; done < len(block); {
		n, err := s.opts.Log.ReadBlock(block[done:], offset+uint64(done))
		if err != nil {
			return err
		}
		done += n
	}
	if err := stream.Send(&wire.Block{Offset: offset, Length: uint32(len(block))}); err != nil {
		return err
	}
	size := len(block)
	if s.priority != nil {
		size = filePiece
	}
	for piece := range slices.Chunk(block, size) {
		if err := s.yield(ctx, len(piece)); err != nil {
			return err
		}
		if _, err := stream.Write(piece); err != nil {
			return err
		}
	}
	return nil
}
