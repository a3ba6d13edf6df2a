package spool

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"repld/change"
)

// Filler appends to a spool what comes faster than one processor compresses it: pieces
// are compressed side by side and written in their order, quickly with S2 (a third of
// zstd's time, twice its bytes) unless who reads the spool falls behind. What comes slowly is
// appended at once, with zstd. It is for one goroutine, beside which Run runs. It takes up to 4 MiB.
// Pieces that are under way when the spool comes to its limit wait for room ([Spool.WaitRoom]).
type Filler struct {
	s     *Spool
	spare chan *piece // all of them while nothing is under way
	pack  chan *piece
	write chan *piece // in the order of the stream
}

// piece is a frame under way.
type piece struct {
	at     change.StreamPosition
	plain  []byte
	frame  []byte
	packed chan struct{} // has one element once frame is made of plain
}

const (
	fillPieces = 8
	// fillAlone is how many bytes are worth another goroutine's time.
	fillAlone = 32 << 10
)

// NewFiller returns a filler of the spool, which nobody else appends to meanwhile.
func (s *Spool) NewFiller() *Filler {
	f := &Filler{
		s: s, spare: make(chan *piece, fillPieces), pack: make(chan *piece, fillPieces), write: make(chan *piece, fillPieces),
	}
	for range fillPieces {
		f.spare <- &piece{packed: make(chan struct{}, 1)}
	}
	return f
}

// Run does the work until ctx ends, or until something can't be appended: it returns
// that error then, see [Spool.Append], and the context of who appends must end. A filler
// runs once. What it was given and didn't append is lost.
func (f *Filler) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for range min(runtime.GOMAXPROCS(0), fillPieces/2) {
		g.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case p := <-f.pack:
					p.frame = dataFrame(p.frame[:0], p.at, p.plain, f.s.hurry())
					p.packed <- struct{}{}
				}
			}
		})
	}
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case p := <-f.write:
				if err := f.put(ctx, p); err != nil {
					return err
				}
			}
		}
	})
	return g.Wait()
}

func (f *Filler) put(ctx context.Context, p *piece) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.packed:
	}
	if err := f.s.WaitRoom(ctx); err != nil {
		return err
	}
	if err := f.s.appendPacked(p); err != nil {
		return err
	}
	f.spare <- p
	return nil
}

// Append takes a copy of bytes of the current chapter, which are appended as by
// [Spool.Append], if not at once then soon. It returns the context's error where Run has
// ended.
func (f *Filler) Append(ctx context.Context, at change.StreamPosition, b []byte) error {
	if len(b) < fillAlone && len(f.spare) == fillPieces {
		return f.s.Append(at, b)
	}
	for len(b) > 0 {
		var p *piece
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p = <-f.spare:
		}
		n := min(len(b), MaxPlain)
		p.at, p.plain = at, append(p.plain[:0], b[:n]...)
		f.pack <- p // there is room for all
		f.write <- p
		at.Offset += uint64(n)
		b = b[n:]
	}
	return nil
}

// Flush returns nil once everything is appended.
func (f *Filler) Flush(ctx context.Context) error {
	var all [fillPieces]*piece
	defer func() {
		for _, p := range all {
			if p != nil {
				f.spare <- p
			}
		}
	}()
	for i := range all {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case all[i] = <-f.spare:
		}
	}
	return nil
}

func (s *Spool) appendPacked(p *piece) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.End() != p.at {
		return s.append(p.at, p.plain)
	}
	if err := s.failure(); err != nil {
		return err
	}
	return s.write(p.frame, p.at, len(p.plain))
}
