package binlog

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// lookEvery is how often a server is looked at that is being stopped.
const lookEvery = 100 * time.Millisecond

// Drained is part of [dblog.Primary]. What the server wrote last is read from its files
// when it is down, by Ship.
func (s *Source) Drained(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		s.mu.Lock()
		logs, durable := logFiles(s.record.LogBin), s.durable
		s.mu.Unlock()
		if logs == "" {
			return errors.New("it isn't known yet where the server's binary logs are")
		}
		clean, err := s.dialect.clean(logs)
		if err != nil {
			return err
		}
		if clean {
			end, err := logs.end()
			if err != nil {
				return err
			}
			if !durable.Before(end) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the standby has the binary log up to %s, and it isn't known that the server was shut down there: %w", show(durable), ctx.Err())
		case <-ticker.C:
		}
	}
}
