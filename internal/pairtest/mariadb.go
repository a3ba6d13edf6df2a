package pairtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// MariaDB is a [Database] on a MariaDB server. All of its writers commit synchronously:
// a server whose position is read has sync_binlog = 1.
type MariaDB struct {
	DSN string // connection string, USER@unix(SOCKET)/
}

func (m MariaDB) open() (*sql.DB, error) {
	config, err := mysql.ParseDSN(m.DSN)
	if err != nil {
		return nil, err
	}
	config.MultiStatements, config.InterpolateParams, config.Logger = true, true, &mysql.NopLogger{}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// Create is [Database.Create].
func (m MariaDB) Create(ctx context.Context) error {
	query := "CREATE DATABASE pairs"
	for i := range Tables {
		query += fmt.Sprintf(`; CREATE TABLE pairs.pair%d (writer int, op bigint, file int, digest binary(32), PRIMARY KEY (writer, op, file)) ENGINE=InnoDB`, i)
	}
	return m.Exec(ctx, query)
}

// Exec runs statements.
func (m MariaDB) Exec(ctx context.Context, query string) error {
	db, err := m.open()
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, query)
	return err
}

// Session is [Database.Session].
func (m MariaDB) Session(ctx context.Context, _ bool) (Session, error) {
	db, err := m.open()
	if err != nil {
		return nil, err
	}
	c, err := db.Conn(ctx)
	if err != nil {
		db.Close()
		return nil, err
	}
	return mariadbSession{db, c}, nil
}

type mariadbSession struct {
	db *sql.DB
	c  *sql.Conn
}

func (s mariadbSession) Close() {
	_ = s.c.Close() // nothing is lost with it
	_ = s.db.Close()
}

// Commit is [Session.Commit].
func (s mariadbSession) Commit(ctx context.Context, put []Row, writer int, remove int64) error {
	query := "BEGIN" // one transaction, in one round trip
	var args []any
	for _, r := range put {
		query += fmt.Sprintf("; INSERT INTO pairs.pair%d VALUES (?, ?, ?, ?)", r.File%Tables)
		args = append(args, r.Writer, r.Op, r.File, r.Digest[:])
	}
	if remove > 0 {
		for i := range Tables {
			query += fmt.Sprintf("; DELETE FROM pairs.pair%d WHERE writer = ? AND op = ?", i)
			args = append(args, writer, remove)
		}
	}
	for {
		_, err := s.c.ExecContext(ctx, query+"; COMMIT", args...)
		var refused *mysql.MySQLError
		if !errors.As(err, &refused) || refused.Number != errDeadlock {
			return err
		}
		// It was rolled back, in favour of another one: applications try again.
	}
}

// errDeadlock is ER_LOCK_DEADLOCK.
const errDeadlock = 1213

// Sound returns the checksums of the tables, if the server finds nothing wrong in them.
func (m MariaDB) Sound(ctx context.Context) (string, error) {
	db, err := m.open()
	if err != nil {
		return "", err
	}
	defer db.Close()
	var sums []string
	for i := range Tables {
		var table, op, kind, text string
		if err := db.QueryRowContext(ctx, fmt.Sprintf("CHECK TABLE pairs.pair%d EXTENDED", i)).Scan(&table, &op, &kind, &text); err != nil {
			return "", err
		}
		if text != "OK" {
			return "", fmt.Errorf("CHECK TABLE of %s: %s: %s", table, kind, text)
		}
		var sum string
		if err := db.QueryRowContext(ctx, fmt.Sprintf("CHECKSUM TABLE pairs.pair%d EXTENDED", i)).Scan(&table, &sum); err != nil {
			return "", err
		}
		sums = append(sums, fmt.Sprintf("CHECKSUM TABLE of %s is %s", table, sum))
	}
	return strings.Join(sums, ", "), nil
}

// Rows is [Database.Rows].
func (m MariaDB) Rows(ctx context.Context) ([]Row, error) { return m.RowsFrom(ctx, 0) }

// RowsFrom returns the rows of writers from first on, as [Database.Rows] does.
func (m MariaDB) RowsFrom(ctx context.Context, first int) (list []Row, err error) {
	query := ""
	for i := range Tables {
		if i > 0 {
			query += " UNION ALL "
		}
		query += fmt.Sprintf("SELECT writer, op, file, digest FROM pairs.pair%d WHERE writer >= %d", i, first)
	}
	db, err := m.open()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r Row
		var digest []byte
		if err := rows.Scan(&r.Writer, &r.Op, &r.File, &digest); err != nil {
			return nil, err
		}
		copy(r.Digest[:], digest)
		list = append(list, r)
	}
	return list, rows.Err()
}
