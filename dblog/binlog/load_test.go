package binlog

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"repld/dblog/binlog/binlogtest"
	"repld/dblog/dblogtest"
)

const loadSchema = `CREATE DATABASE d; CREATE TABLE d.a (w int, n bigint, filler text, PRIMARY KEY (w, n));
	CREATE TABLE d.b (w int, n bigint, KEY (w)); CREATE TABLE d.last (w int PRIMARY KEY, n bigint)`

func startLoad(t testing.TB, s *binlogtest.Server, writers int) *dblogtest.Load {
	t.Helper()
	return startLoadAt(t, s, writers, 0)
}

// startLoadAt begins behind transaction last of each writer.
func startLoadAt(t testing.TB, s *binlogtest.Server, writers int, last int64) *dblogtest.Load {
	t.Helper()
	db := s.DB("d")
	return dblogtest.StartLoad(t, writers, last, func(l *dblogtest.Load, w int) error {
		ctx := context.Background()
		c, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		return l.Write(w, 10*time.Millisecond, func(n int64) error {
			_, err := c.ExecContext(ctx, "BEGIN; INSERT INTO a VALUES (?, ?, repeat('x', ?)); INSERT INTO b VALUES (?, ?); REPLACE INTO last VALUES (?, ?); COMMIT",
				w, n, n%700, w, n, w, n)
			return err
		})
	})
}

// checkNoted compares a server with what was noted.
func checkNoted(n dblogtest.Noted, s *binlogtest.Server) error {
	rows, err := s.DB("d").Query(`SELECT a.w, a.m, a.c, b.m, b.c, last.n FROM (SELECT w, max(n) m, count(*) c FROM a GROUP BY w) a
		JOIN (SELECT w, max(n) m, count(*) c FROM b GROUP BY w) b USING (w) JOIN last USING (w) ORDER BY w`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var list []dblogtest.Tally
	for rows.Next() {
		var s dblogtest.Tally
		if err := rows.Scan(&s.Writer, &s.MaxA, &s.CountA, &s.MaxB, &s.CountB, &s.Last); err != nil {
			return err
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return n.Check(list)
}

// sums returns the checksums of the load's tables.
func sums(s *binlogtest.Server) (string, error) {
	rows, err := s.DB("d").Query("CHECKSUM TABLE a, b, last EXTENDED")
	if err != nil {
		return "", err
	}
	defer rows.Close()
	text := ""
	for rows.Next() {
		var table, sum string
		if err := rows.Scan(&table, &sum); err != nil {
			return "", err
		}
		text += table + " " + sum + "\n"
	}
	return text, rows.Err()
}

func wantSums(t testing.TB, a, b *binlogtest.Server) {
	t.Helper()
	one, err := sums(a)
	must(t, err)
	two, err := sums(b)
	must(t, err)
	if one != two || one == "" {
		t.Fatalf("the tables' checksums differ:\n%s\n%s", one, two)
	}
}

func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
