package ship

import (
	"context"
	"errors"
	"io"
	"time"

	"repld/change"
	"repld/wire"
)

// syncEvery is how many bytes of log may arrive before they are made durable
// though no barrier is among them.
const syncEvery = 16 << 20

// sync makes the log durable when a barrier has arrived, and tells whom it
// concerns.
func (s *receiving) sync(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.arrived:
		}
		newest, err := s.look()
		if err != nil {
			return err
		}
		log := s.opts.Log
		if newest == nil && log.End().Offset-log.Durable().Offset < syncEvery {
			continue
		}
		if err := log.Sync(); err != nil {
			return err
		}
		if newest != nil {
			s.mu.Lock()
			s.received = *newest
			s.mu.Unlock()
			s.opts.Applier.Notify()
		}
		s.Notify()
	}
}

// look returns the newest barrier among the records that came since the last
// look, nil if there is none.
func (s *receiving) look() (newest *change.Barrier, err error) {
	s.mu.Lock()
	from := s.seeing
	s.mu.Unlock()
	reader, err := s.opts.Log.HeadReader(from)
	if err != nil {
		return nil, err
	}

	for {
		rec, _, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if b, ok := rec.(*change.Barrier); ok {
			newest = b
		}
	}
	s.mu.Lock()
	s.seeing = reader.Offset()
	s.mu.Unlock()
	return newest, nil
}

// errNeedsBase ends a session whose log no longer fits what the standby has: the
// next one begins with a base.
var errNeedsBase = errors.New("the standby can't go on from what it has and needs a base")

// report tells the primary how far this node is: at news, and from time to time.
func (s *receiving) report(ctx context.Context) error {
	ticker := time.NewTicker(s.opts.ProgressEvery)
	defer ticker.Stop()
	for {
		if err := s.conn.Send(ctx, s.progress()); err != nil {
			return err
		}
		if s.Agreed() {
			if _, ok := s.opts.Applier.Base(); !ok {
				return errNeedsBase
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.news:
		case <-ticker.C:
		}
	}
}

func (s *receiving) progress() *wire.Progress {
	p := s.opts.Applier.Progress()
	p.Group = s.opts.Group
	p.Durable = s.opts.Log.Durable().Offset
	if p.Received.Compare(p.Applied) < 0 {
		p.Received = p.Applied
	}
	if received, ok := s.Received(); ok && received.ID.Compare(p.Received) > 0 {
		p.Received = received.ID
	}
	return &p
}
