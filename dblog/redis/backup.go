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
	// Former is a replication id that the server had followed up to a byte, before it was
	// promoted; "": it doesn't know of any.
	Former     string `json:"former,omitempty"`
	FormerNext uint64 `json:"former_next,omitempty"`
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
	var is info
	err := s.work.with(ctx, func(c *connection) (err error) {
		is, err = ask(c, "replication")
		return err
	})
	if err != nil {
		return nil, err
	}
	var made backup
	asked := s.asked()
	err = copySnapshot(ctx, s.at, w, func(id string, next uint64) error {
		if _, err := s.see(info{"master_replid": id}, asked); err != nil {
			return err
		}
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
		var now record
		err = s.remember(func(r *record) {
			if r.ID == id {
				*r = record{Chapter: r.Chapter, ID: id, Origin: next, Made: true}
			}
			now = *r
		})
		if err == nil && now.ID != id {
			err = errOvertaken
		}
		if err != nil {
			c.Close()
			return err
		}
		made = backup{Chapter: now.Chapter, ID: id, Next: next}
		s.prepare(&prepared{c, now})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if second, err := is.number("second_repl_offset"); err == nil && second > 0 {
		made.Former, made.FormerNext = is["master_replid2"], uint64(second)
	}
	s.trouble.Forget(health.DatabaseNeedsSeed)
	return json.Marshal(made)
}
