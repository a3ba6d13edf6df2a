package pairtest

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// SQLite is a [Database] in a file. Writers that commit asynchronously never sync it.
type SQLite struct {
	Path    string
	Journal string // journal_mode, such as "wal" or "delete"
}

func (s SQLite) open(pragmas ...string) (*sql.DB, error) {
	// Checkpoints come every 100 pages, so that barriers find them under way.
	pragmas = append([]string{"busy_timeout(20000)", "journal_mode(" + s.Journal + ")", "wal_autocheckpoint(100)"}, pragmas...)
	u := url.URL{Scheme: "file", Path: s.Path, RawQuery: url.Values{"_pragma": pragmas, "_txlock": {"immediate"}}.Encode()}
	return sql.Open("sqlite", u.String())
}

// Create is [Database.Create].
func (s SQLite) Create(ctx context.Context) error {
	db, err := s.open()
	if err != nil {
		return err
	}
	defer db.Close()
	for i := range Tables {
		// The index makes a transaction change pages that are far apart.
		if _, err := db.ExecContext(ctx, fmt.Sprintf(`create table pair%d (writer integer, op integer, file integer, digest blob,
			primary key (writer, op, file)) without rowid; create index pair%d_digest on pair%d (digest)`, i, i, i)); err != nil {
			return err
		}
	}
	return nil
}

// Session is [Database.Session].
func (s SQLite) Session(_ context.Context, asynchronous bool) (Session, error) {
	synchronous := "synchronous(full)"
	if asynchronous {
		synchronous = "synchronous(off)"
	}
	db, err := s.open(synchronous)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return sqliteSession{db}, nil
}

type sqliteSession struct{ db *sql.DB }

func (s sqliteSession) Close() { _ = s.db.Close() } // nothing is lost with it

// Commit is [Session.Commit].
func (s sqliteSession) Commit(ctx context.Context, put []Row, writer int, remove int64) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	for _, r := range put {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("insert into pair%d values (?, ?, ?, ?)", r.File%Tables), r.Writer, r.Op, r.File, r.Digest[:]); err != nil {
			return err
		}
	}
	if remove > 0 {
		for i := range Tables {
			if _, err := tx.ExecContext(ctx, fmt.Sprintf("delete from pair%d where writer = ? and op = ?", i), writer, remove); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

// Rows is [Database.Rows]. A database that isn't sound is an error.
func (s SQLite) Rows(ctx context.Context) (list []Row, err error) {
	db, err := s.open()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var sound string
	if err := db.QueryRowContext(ctx, "pragma integrity_check").Scan(&sound); err != nil || sound != "ok" {
		return nil, fmt.Errorf("integrity_check of %s: %q, %w", s.Path, sound, err)
	}
	var tables []string
	for i := range Tables {
		tables = append(tables, fmt.Sprintf("select writer, op, file, digest from pair%d", i))
	}
	rows, err := db.QueryContext(ctx, strings.Join(tables, " union all "))
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
