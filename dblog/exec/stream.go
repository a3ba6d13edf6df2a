package exec

import (
	"context"
	"errors"
	"io"

	"repld/change"
	"repld/dblog/spool"
)

// Ship is [dblog.Source.Ship]. It begins with the record before from, so that what both
// sides have is compared.
func (s *Source) Ship(ctx context.Context, from change.StreamPosition) error {
	at, err := s.shipFrom(from)
	if err != nil {
		return err
	}
	for at.IsZero() { // no position has been read yet
		if err := s.stream.WaitFor(ctx, at); err != nil {
			return err
		}
		at = s.stream.Start()
	}
	if err := s.opts.Spool.Begin(s.stream.Chapters()[0]); err != nil {
		return err
	}
	r := s.stream.NewReader()
	defer r.Close()
	for {
		if err := s.stream.WaitDurable(ctx, change.StreamPosition{Chapter: at.Chapter, Offset: at.Offset + 1}); err != nil {
			return err
		}
		text, end, err := textAt(r, at)
		if errors.Is(err, io.EOF) {
			continue
		}
		if err != nil {
			return err
		}
		if err := s.stream.WaitDurable(ctx, end); err != nil {
			return err
		}
		if err := s.opts.Spool.WaitRoom(ctx); err != nil {
			return err
		}
		if err := s.opts.Spool.Append(at, appendRecord(nil, text)); err != nil {
			return err
		}
		at = end
	}
}

// shipFrom returns the record with which the stream begins for a standby that ends at
// from; zero while there is none. If from is of another stream, this one begins anew with a
// higher number.
func (s *Source) shipFrom(from change.StreamPosition) (change.StreamPosition, error) {
	s.appending.Lock()
	defer s.appending.Unlock()
	start, durable := s.stream.Start(), s.stream.Durable()
	switch {
	case from.IsZero(), from.Chapter < start.Chapter && start.Offset == 0:
		return start, nil
	case from.Chapter == start.Chapter && from.Offset >= start.Offset && from.Offset <= durable.Offset:
		if text, err := textBefore(s.stream, from); err == nil {
			from.Offset -= recordSize(text)
		} else if !errors.Is(err, spool.ErrFreed) && from != start {
			return from, err
		}
		return from, nil
	}
	if err := s.begin(from.Chapter); err != nil {
		return from, err
	}
	return s.stream.Start(), nil
}

// Acknowledge is [dblog.Source.Acknowledge]: the standby's part of the stream is let go, but
// for the newest text, with which another standby begins.
func (s *Source) Acknowledge(durable, _ change.StreamPosition) {
	s.mu.Lock()
	keep := s.at
	keep.Offset -= min(keep.Offset, recordSize(s.newest))
	if s.acked != durable {
		s.acked = durable
		close(s.moved)
		s.moved = make(chan struct{})
	}
	s.mu.Unlock()
	if durable.Before(keep) {
		keep = durable
	}
	_ = s.stream.Free(keep) // what stays is only longer than it need be
}

// Drained is [dblog.Primary.Drained]: the standby has the newest position of a barrier.
func (s *Source) Drained(ctx context.Context) error {
	for {
		s.mu.Lock()
		drained, moved := !s.acked.Before(s.drained), s.moved
		s.mu.Unlock()
		if drained {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
	}
}
