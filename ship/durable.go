package ship

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"repld/change"
	"repld/journal"
	"repld/wire"
)

// syncEvery is how many bytes of log may arrive before they are made durable
// though no barrier is among them.
const syncEvery = 16 << 20

// sync makes the log durable when a barrier has arrived, and tells whom it
// concerns when the spools are there too.
func (s *receiving) sync(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.flushed:
		case <-s.arrived:
			found, err := s.look()
			if err != nil {
				return err
			}
			log := s.opts.Log
			if !found && log.End().Offset-log.Durable().Offset < syncEvery {
				continue
			}
			if err := log.Sync(); err != nil {
				return err
			}
		}
		if s.receiveNewest() {
			s.opts.Applier.Notify()
		}
		s.Notify()
	}
}

// look finds the barriers among the records that came since the last look.
func (s *receiving) look() (found bool, err error) {
	s.mu.Lock()
	from := s.seeing
	s.mu.Unlock()
	end, err := s.barriers(from, func(b *change.Barrier, _ uint64) {
		found = true
		s.mu.Lock()
		s.waiting = append(thin(s.waiting), *b)
		s.mu.Unlock()
	})
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	s.seeing = end
	s.mu.Unlock()
	return found, nil
}

// barriers calls each for the barriers from a log offset on, with the offset behind
// each, and returns where the log ends. What is applied and freed meanwhile is passed over.
func (r *Receiver) barriers(from uint64, each func(*change.Barrier, uint64)) (end uint64, err error) {
	for {
		end, err = r.readBarriers(from, each)
		if !errors.Is(err, journal.ErrFreed) {
			return end, err
		}
		from = r.unapplied()
	}
}

func (r *Receiver) readBarriers(from uint64, each func(*change.Barrier, uint64)) (end uint64, err error) {
	reader, err := r.opts.Log.HeadReader(from)
	if err != nil {
		return 0, err
	}
	for {
		rec, _, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return reader.Offset(), nil
		}
		if err != nil {
			return 0, err
		}
		if b, ok := rec.(*change.Barrier); ok {
			each(b, reader.Offset())
		}
	}
}

// maxWaiting bounds the barriers that are remembered while a spool isn't there.
const maxWaiting = 1024

// thin drops every second barrier, but the newest, when there are too many.
func thin(list []change.Barrier) []change.Barrier {
	if len(list) < maxWaiting {
		return list
	}
	kept := list[:0]
	for i := range list {
		if i%2 == 0 || i == len(list)-1 {
			kept = append(kept, list[i])
		}
	}
	return kept
}

// receiveNewest makes the newest barrier that is complete the received one, and
// reports whether there is a new one.
func (r *Receiver) receiveNewest() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.waiting) - 1; i >= 0; i-- {
		if r.complete(&r.waiting[i].Certificate) {
			r.received = r.waiting[i]
			r.waiting = slices.Delete(r.waiting, 0, i+1)
			return true
		}
	}
	return false
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
	if lost := s.lost(); lost.Compare(p.Lacks) > 0 {
		p.Lacks = lost
	}
	for _, q := range s.spools {
		p.Spools = append(p.Spools, q.progress())
	}
	return &p
}
