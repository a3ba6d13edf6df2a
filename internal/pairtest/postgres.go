package pairtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Postgres is a [Database] on a PostgreSQL server.
type Postgres struct {
	DSN string // connection string
}

// Create is [Database.Create].
func (p Postgres) Create(ctx context.Context) error {
	return p.with(ctx, func(c *pgx.Conn) error {
		for i := range Tables {
			if _, err := c.Exec(ctx, fmt.Sprintf(`CREATE TABLE pair%d (writer int, op bigint, file int, digest bytea, PRIMARY KEY (writer, op, file))`, i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p Postgres) with(ctx context.Context, f func(*pgx.Conn) error) error {
	c, err := pgx.Connect(ctx, p.DSN)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	return f(c)
}

// Replayed returns where a replica is in its log, as the server writes it.
func (p Postgres) Replayed(ctx context.Context) (at string, err error) {
	err = p.with(ctx, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, "SELECT coalesce(pg_last_wal_replay_lsn()::text, '')").Scan(&at)
	})
	return at, err
}

// Exec runs a statement.
func (p Postgres) Exec(ctx context.Context, sql string) error {
	return p.with(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, sql)
		return err
	})
}

// Session is [Database.Session].
func (p Postgres) Session(ctx context.Context, asynchronous bool) (Session, error) {
	c, err := pgx.Connect(ctx, p.DSN)
	if err != nil {
		return nil, err
	}
	if asynchronous {
		if _, err := c.Exec(ctx, "SET synchronous_commit = off"); err != nil {
			c.Close(ctx)
			return nil, err
		}
	}
	return postgresSession{c}, nil
}

type postgresSession struct{ c *pgx.Conn }

func (s postgresSession) Close() { s.c.Close(context.Background()) }

// Commit is [Session.Commit].
func (s postgresSession) Commit(ctx context.Context, put []Row, writer int, remove int64) error {
	var b pgx.Batch // one transaction, in one round trip
	b.Queue("BEGIN")
	for _, r := range put {
		b.Queue(fmt.Sprintf("INSERT INTO pair%d VALUES ($1, $2, $3, $4)", r.File%Tables), r.Writer, r.Op, r.File, r.Digest[:])
	}
	if remove > 0 {
		for i := range Tables {
			b.Queue(fmt.Sprintf("DELETE FROM pair%d WHERE writer = $1 AND op = $2", i), writer, remove)
		}
	}
	b.Queue("COMMIT")
	return s.c.SendBatch(ctx, &b).Close()
}

// Rows is [Database.Rows].
func (p Postgres) Rows(ctx context.Context) ([]Row, error) { return p.RowsFrom(ctx, 0) }

// RowsFrom returns the rows of writers from first on, as [Database.Rows] does.
func (p Postgres) RowsFrom(ctx context.Context, first int) (list []Row, err error) {
	query := ""
	for i := range Tables {
		if i > 0 {
			query += " UNION ALL "
		}
		query += fmt.Sprintf("SELECT writer, op, file, digest FROM pair%d WHERE writer >= $1", i)
	}
	err = p.with(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, query, first)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r Row
			var digest []byte
			if err := rows.Scan(&r.Writer, &r.Op, &r.File, &digest); err != nil {
				return err
			}
			copy(r.Digest[:], digest)
			list = append(list, r)
		}
		return rows.Err()
	})
	return list, err
}
