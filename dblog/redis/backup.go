package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"repld/health"
)

// backup says of when an RDB file is. It is the tail of a seed, in JSON.
type backup struct {
	Chapter uint32 `json:"chapter"`
	ID      string `json:"id"`
	Next    uint64 `json:"next"` // byte of the stream that comes behind it
}

// Backup implements [dblog.Primary]: it writes an RDB file, and sees to it that the stream
// behind that can be had from the first byte on that it writes.
func (s *Source) Backup(ctx context.Context, w io.Writer) ([]byte, error) {
	tail, err := s.backup(ctx, w)
	return tail, s.noted(err)
}

func (s *Source) backup(ctx context.Context, w io.Writer) ([]byte, error) {
	if err := s.Check(ctx); err != nil {
		return nil, err
	}
	var made backup
	err := copySnapshot(ctx, s.at, w, func(id string, next uint64) error {
		made = backup{Chapter: s.see(id).Chapter, ID: id, Next: next}
		// The connection waits for Ship, which comes with the standby's next request.
		c, err := dial(ctx, s.at)
		if err != nil {
			return err
		}
		if err := follow(c, id, next); err != nil {
			c.Close()
			return fmt.Errorf("the stream behind the backup: %w", err)
		}
		c.release()
		if err := s.remember(func(r *record) { r.Origin, r.Made = next, true }); err != nil {
			c.Close()
			return err
		}
		s.prepare(c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	delete(s.trouble, health.DatabaseNeedsSeed)
	s.mu.Unlock()
	return json.Marshal(made)
}
