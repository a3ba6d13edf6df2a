package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"repld/change"
	"repld/dblog"
	"repld/health"
)

// makeSlotSQL makes a slot, if there is none, that keeps WAL from the last checkpoint on.
const makeSlotSQL = `SELECT pg_create_physical_replication_slot($1, true)
	WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)`

// Prepare makes the replication slot if there is none, so that the server keeps its
// WAL from now on, and returns from where on it does. A seed begins with it.
func (s *Source) Prepare(ctx context.Context) (change.StreamPosition, error) {
	var at change.StreamPosition
	err := s.work.with(ctx, func(c *pgconn.PgConn, v *server) error {
		if err := unsuitable(v); err != nil {
			return err
		}
		// One that keeps nothing any more was never used, or invalidated.
		_, err := query(ctx, c, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND restart_lsn IS NULL", s.opts.Slot)
		if err != nil {
			return err
		}
		_, err = query(ctx, c, makeSlotSQL, s.opts.Slot)
		if err != nil {
			return err
		}
		rows, err := query(ctx, c, "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = $1", s.opts.Slot)
		if err != nil {
			return err
		}
		row, err := one(rows, 1)
		if err != nil {
			return err
		}
		lsn, err := ParseLSN(row[0])
		at = change.StreamPosition{Chapter: v.timeline, Offset: uint64(lsn)}
		return err
	})
	if err == nil {
		s.trouble.Forget(health.DatabaseNeedsSeed)
	}
	return at, s.noted(err)
}

// SlotState is what the server says of the slot.
type SlotState struct {
	Exists, Active bool
	Status         string // reserved, extended, unreserved, lost
	Bytes          int64  // of WAL that it keeps
}

// Slot asks for the state of the slot.
func (s *Source) Slot(ctx context.Context) (SlotState, error) {
	var st SlotState
	err := s.work.with(ctx, func(c *pgconn.PgConn, _ *server) error {
		rows, err := query(ctx, c, `SELECT active::text, coalesce(wal_status, ''),
			coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint::text
			FROM pg_replication_slots WHERE slot_name = $1`, s.opts.Slot)
		if err != nil || len(rows) == 0 {
			return err
		}
		st.Exists, st.Active, st.Status = true, rows[0][0] == "true", rows[0][1]
		st.Bytes, err = strconv.ParseInt(rows[0][2], 10, 64)
		return err
	})
	return st, err
}

// Watch looks at the server and the slot, every few seconds, until ctx ends. A slot
// that keeps more than its limit is dropped: the replica then needs a seed, and
// production goes on.
func (s *Source) Watch(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := s.Check(ctx); err != nil && ctx.Err() == nil {
			s.opts.Logger.Warn("the database was checked", "database", s.opts.Name, "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// Check does once what [Source.Watch] does. It returns what it found wrong.
func (s *Source) Check(ctx context.Context) error {
	err := s.work.with(ctx, func(_ *pgconn.PgConn, v *server) error { return unsuitable(v) })
	if err != nil {
		return s.noted(err)
	}
	st, err := s.Slot(ctx)
	if err != nil {
		return s.noted(err)
	}
	switch {
	case st.Status == "lost":
		return s.noted(fmt.Errorf("%w: replication slot %q was invalidated by max_slot_wal_keep_size", dblog.ErrNeedsSeed, s.opts.Slot))
	case !st.Exists:
		s.mu.Lock()
		used := !s.durable.IsZero()
		s.mu.Unlock()
		if used {
			return s.noted(fmt.Errorf("%w: replication slot %q is gone", dblog.ErrNeedsSeed, s.opts.Slot))
		}
	case st.Bytes > s.opts.SlotLimit:
		over := fmt.Errorf("%w: replication slot %q kept %d bytes of WAL, over slot_limit %d, and was dropped",
			dblog.ErrNeedsSeed, s.opts.Slot, st.Bytes, s.opts.SlotLimit)
		if err := s.dropSlot(ctx, over); err != nil {
			return s.noted(err)
		}
		return s.noted(over)
	}
	return s.noted(nil)
}

// Drop removes the slot, for good: the replica then needs a seed.
func (s *Source) Drop(ctx context.Context) error {
	return s.dropSlot(ctx, errors.New("the replication slot was dropped"))
}

// dropSlot ends the stream and drops the slot once the server has noticed.
func (s *Source) dropSlot(ctx context.Context, why error) error {
	s.mu.Lock()
	stop := s.stop
	s.mu.Unlock()
	if stop != nil {
		stop(why)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := s.work.with(ctx, func(c *pgconn.PgConn, _ *server) error {
			_, err := query(ctx, c, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", s.opts.Slot)
			return err
		})
		var answer *pgconn.PgError
		if !errors.As(err, &answer) || answer.Code != "55006" { // object_in_use
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}
