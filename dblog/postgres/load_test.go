package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"repld/dblog/dblogtest"
)

const loadSchema = `CREATE TABLE a (w int, n bigint, xid xid8, filler text); CREATE TABLE b (w int, n bigint);
	CREATE TABLE last (w int PRIMARY KEY, n bigint)`

// startLoad begins writing; every other writer commits asynchronously.
func startLoad(t testing.TB, dsn string, writers int) *dblogtest.Load {
	t.Helper()
	return dblogtest.StartLoad(t, writers, 0, func(l *dblogtest.Load, w int) error {
		ctx := context.Background()
		c, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		if w%2 == 1 {
			if _, err := c.Exec(ctx, "SET synchronous_commit = off"); err != nil {
				return err
			}
		}
		return l.Write(w, 2*time.Millisecond, func(n int64) error {
			_, err := c.Exec(ctx, `WITH x AS (INSERT INTO a VALUES ($1, $2, pg_current_xact_id(), repeat('x', ($2::bigint % 700)::int))),
				y AS (INSERT INTO b VALUES ($1, $2)) INSERT INTO last VALUES ($1, $2) ON CONFLICT (w) DO UPDATE SET n = $2`, w, n)
			return err
		})
	})
}

// checkNoted compares a server with what was noted.
func checkNoted(n dblogtest.Noted, c *pgx.Conn) error {
	ctx := context.Background()
	rows, err := c.Query(ctx, `SELECT a.w, a.m, a.c, b.m, b.c, last.n, pg_is_in_recovery(), pg_last_wal_replay_lsn()::text
		FROM (SELECT w, max(n) m, count(*) c FROM a GROUP BY w) a FULL JOIN (SELECT w, max(n) m, count(*) c FROM b GROUP BY w) b USING (w)
		FULL JOIN last USING (w) ORDER BY w`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var list []dblogtest.Tally
	for rows.Next() {
		var s dblogtest.Tally
		var recovery bool
		var replay *string
		if err := rows.Scan(&s.Writer, &s.MaxA, &s.CountA, &s.MaxB, &s.CountB, &s.Last, &recovery, &replay); err != nil {
			return err
		}
		if want := LSN(n.Point.Position.Offset).String(); recovery && *replay != want {
			return fmt.Errorf("the replica replayed up to %s, want exactly %s", *replay, want)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return n.Check(list)
}
