package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"repld/change"
)

// lookEvery is how often a server is looked at that is being stopped.
const lookEvery = 100 * time.Millisecond

// Drained implements [dblog.Primary]. A server that is shut down waits until its replicas
// have acknowledged all of its stream, and closes their connections then. So the stream's
// end is the server's if it was acknowledged before.
func (s *Source) Drained(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		err := s.drained(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, ctx.Err())
		case <-ticker.C:
		}
	}
}

func (s *Source) drained(ctx context.Context) error {
	s.mu.Lock()
	end, durable, seen := s.ended, s.durable, s.seen
	s.mu.Unlock()
	if end == nil {
		return errors.New("it isn't known where its stream ended: it wasn't shut down, or nobody read the stream then")
	}
	last := change.StreamPosition{Chapter: end.chapter, Offset: end.next}
	switch {
	case last.Before(seen):
		return fmt.Errorf("its stream ended at %s, and it was at %s before that", show(last), show(seen))
	case end.acked != end.next:
		return fmt.Errorf("its stream ended at %s, and it knew that the standby has it up to %d: want a longer shutdown-timeout", show(last), end.acked-1)
	case durable.Before(last):
		return fmt.Errorf("the standby has the stream up to %s, it ended at %s", show(durable), show(last))
	}
	if c, err := dial(ctx, s.at); err == nil {
		c.Close()
		return errors.New("it runs")
	}
	return nil
}
