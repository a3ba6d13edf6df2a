package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"repld/health"
)

// Versions of the server that this package was tested with.
const (
	minVersion = 150000
	maxVersion = 189999
)

// connectTimeout bounds how long a connection is waited for.
const connectTimeout = 10 * time.Second

// server is what a connection found at its other end.
type server struct {
	start       string // when the postmaster started, with the system identifier
	system      string
	timeline    uint32
	version     int
	segmentSize uint64
	recovery    bool
	walLevel    string
	senders     int // max_wal_senders
	fsync       string
	promotes    bool // we may call pg_promote
}

// link is a connection that is kept open and made anew after it broke. One caller
// uses it at a time.
type link struct {
	config *pgconn.Config
	setup  func(ctx context.Context, c *pgconn.PgConn) error

	// generation numbers the connections; 0 while there is none. A crash of one of its
	// processes makes the server drop them all, and start anew what it had not yet
	// flushed, without a new start of the postmaster: only a connection that lived all
	// the while tells that nothing of the kind has happened.
	generation atomic.Uint64

	mu     sync.Mutex
	made   uint64 // connections so far
	conn   *pgconn.PgConn
	server server
}

// parseDSN returns the configuration of a connection string. No error shows it.
func parseDSN(dsn, application string) (*pgconn.Config, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("the connection string is not valid: %w", redacted(err))
	}
	if config.RuntimeParams == nil {
		config.RuntimeParams = make(map[string]string)
	}
	config.RuntimeParams["application_name"] = application
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	return config, nil
}

// redacted keeps of an error about a connection string only its cause.
func redacted(err error) error {
	var parse *pgconn.ParseConfigError
	if errors.As(err, &parse) && parse.Unwrap() != nil {
		return parse.Unwrap()
	}
	return errors.New("see the documentation of libpq for its form")
}

// with calls do with the open connection and what is known of its server. An error
// that isn't the server's own answer closes the connection. One that broke since it was
// used last is replaced, and do is called once more.
func (l *link) with(ctx context.Context, do func(c *pgconn.PgConn, s *server) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil && !l.conn.IsClosed() {
		broken, err := l.try(do)
		if !broken || ctx.Err() != nil {
			return err
		}
	}
	l.drop()
	if err := l.connect(ctx); err != nil {
		return err
	}
	_, err := l.try(do)
	return err
}

// try calls do and drops the connection if that breaks it.
func (l *link) try(do func(c *pgconn.PgConn, s *server) error) (broken bool, err error) {
	if err = do(l.conn, &l.server); err == nil {
		return false, nil
	}
	var network *net.OpError
	if l.conn.IsClosed() || errors.As(err, &network) {
		l.drop()
		return true, err
	}
	return false, err
}

func (l *link) connect(ctx context.Context) error {
	c, err := pgconn.ConnectConfig(ctx, l.config)
	if err != nil {
		return err
	}
	s, err := identify(ctx, c)
	if err == nil && l.setup != nil {
		err = l.setup(ctx, c)
	}
	if err != nil {
		closeConn(c)
		return err
	}
	l.conn, l.server = c, s
	l.made++
	l.generation.Store(l.made)
	return nil
}

func (l *link) drop() {
	l.generation.Store(0)
	if l.conn != nil {
		closeConn(l.conn)
		l.conn = nil
	}
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop()
}

// closeConn says good-bye, but doesn't wait for a server that hangs.
func closeConn(c *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c.Close(ctx)
}

// query returns the rows of a statement as text.
func query(ctx context.Context, c *pgconn.PgConn, sql string, args ...string) ([][]string, error) {
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	result := c.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	return texts(result.Rows), result.Err
}

func texts(rows [][][]byte) [][]string {
	list := make([][]string, len(rows))
	for i, row := range rows {
		list[i] = make([]string, len(row))
		for j, v := range row {
			list[i][j] = string(v)
		}
	}
	return list
}

func one(rows [][]string, columns int) ([]string, error) {
	if len(rows) != 1 || len(rows[0]) < columns {
		return nil, fmt.Errorf("the server answered with %d rows, want 1 of %d columns", len(rows), columns)
	}
	return rows[0], nil
}

const identifySQL = `SELECT extract(epoch FROM pg_postmaster_start_time())::text, (pg_control_system()).system_identifier::text,
	current_setting('server_version_num'), pg_is_in_recovery()::text,
	(SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'), current_setting('wal_level'),
	current_setting('max_wal_senders'), current_setting('fsync'),
	has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE')::text,
	CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END`

// identify finds out who is at the other end.
func identify(ctx context.Context, c *pgconn.PgConn) (server, error) {
	rows, err := query(ctx, c, identifySQL)
	if err != nil {
		return server{}, err
	}
	row, err := one(rows, 10)
	if err != nil {
		return server{}, err
	}
	s := server{start: row[1] + " " + row[0], system: row[1], recovery: row[3] == "true", walLevel: row[5], fsync: row[7], promotes: row[8] == "true"}
	var errs [4]error
	s.version, errs[0] = strconv.Atoi(row[2])
	s.segmentSize, errs[1] = strconv.ParseUint(row[4], 10, 64)
	s.senders, errs[2] = strconv.Atoi(row[6])
	if !s.recovery {
		var timeline uint64
		timeline, errs[3] = strconv.ParseUint(row[9], 16, 32)
		s.timeline = uint32(timeline)
	}
	return s, errors.Join(errs[:]...)
}

// trouble returns the condition that an error of a connection amounts to.
func trouble(err error) (health.Code, string) {
	var answer *pgconn.PgError
	var refused *net.OpError
	switch {
	case errors.As(err, &answer):
		switch {
		case answer.Code[:2] == "28":
			return health.DatabaseSetup, "the database refused the login: " + answer.Message
		case answer.Code == "42501":
			return health.DatabaseSetup, "the database user lacks a privilege (it needs LOGIN and REPLICATION): " + answer.Message
		case answer.Code == "53300":
			return health.DatabaseSetup, "the database has no connection left (max_connections, max_wal_senders): " + answer.Message
		case answer.Code == "57P03" || answer.Code == "57P01" || answer.Code == "57P02":
			return health.DatabaseDown, "the database is starting or stopping: " + answer.Message
		case answer.Code == "3D000":
			return health.DatabaseSetup, "the database does not exist: " + answer.Message
		}
		return health.DatabaseSetup, "the database answered: " + answer.Message
	case errors.As(err, &refused):
		return health.DatabaseDown, fmt.Sprintf("the database at %v can't be reached: %v", refused.Addr, refused.Err)
	}
	return health.DatabaseDown, "the database can't be reached: " + err.Error()
}
