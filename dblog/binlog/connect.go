package binlog

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"repld/health"
)

// connectTimeout bounds how long a connection is waited for.
const connectTimeout = 10 * time.Second

// link is a connection that is kept open and made anew after it broke. One caller
// uses it at a time.
type link struct {
	config *mysql.Config
	setup  []string // statements

	// generation numbers the connections; 0 while there is none. A server that was
	// restarted has dropped them all.
	generation atomic.Uint64

	mu   sync.Mutex
	made uint64
	conn driver.Conn
}

// parseDSN returns the configuration of a connection string. No error shows it.
func parseDSN(dsn string) (*mysql.Config, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, setupError{`the connection string is not valid, want USER[:PASSWORD]@unix(/path/of/socket)/ or USER[:PASSWORD]@tcp(127.0.0.1:3306)/`}
	}
	if config.TLSConfig != "" && config.TLSConfig != "false" {
		return nil, setupError{fmt.Sprintf("the connection string has tls=%s, which is not supported: connect by the server's socket or by loopback", config.TLSConfig)}
	}
	if config.Timeout == 0 {
		config.Timeout = connectTimeout
	}
	config.InterpolateParams = true
	config.Logger = &mysql.NopLogger{}
	config.ConnectionAttributes = "program_name:repld"
	return config, nil
}

// dial makes a connection, and returns what it stands on.
func dial(ctx context.Context, config *mysql.Config, setup []string) (driver.Conn, net.Conn, error) {
	config = config.Clone()
	var raw net.Conn
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		var err error
		raw, err = d.DialContext(ctx, network, address)
		return raw, err
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, nil, err
	}
	c, err := connector.Connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, statement := range setup {
		if _, err := query(ctx, c, statement); err != nil {
			c.Close()
			return nil, nil, err
		}
	}
	return c, raw, nil
}

// with calls do with the open connection. An error that isn't the server's own answer
// closes it. One that broke since it was used last is replaced, and do is called once
// more.
func (l *link) with(ctx context.Context, do func(c driver.Conn) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		broken, err := l.try(do)
		if !broken || ctx.Err() != nil {
			return err
		}
	}
	l.drop()
	c, _, err := dial(ctx, l.config, l.setup)
	if err != nil {
		return err
	}
	l.conn = c
	l.made++
	l.generation.Store(l.made)
	_, err = l.try(do)
	return err
}

// try calls do and drops the connection if that breaks it.
func (l *link) try(do func(c driver.Conn) error) (broken bool, err error) {
	if err = do(l.conn); err == nil {
		return false, nil
	}
	if broke(err) {
		l.drop()
		return true, err
	}
	return false, err
}

// broke reports whether an error leaves a connection useless.
func broke(err error) bool {
	var answer *mysql.MySQLError
	var network *net.OpError
	switch {
	case errors.As(err, &answer):
		return answer.Number == codeShutdown || answer.Number == codeKilled
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, mysql.ErrInvalidConn), errors.As(err, &network), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return true
	}
	return false
}

func (l *link) drop() {
	l.generation.Store(0)
	if l.conn != nil {
		_ = l.conn.Close() // nothing is lost with it
		l.conn = nil
	}
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop()
}

// row is a row of a result, by the names of its columns.
type row map[string]string

// query returns the rows of a statement. NULL is the empty string.
func query(ctx context.Context, c driver.Conn, sql string, args ...any) ([]row, error) {
	named := make([]driver.NamedValue, len(args))
	for i, a := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	rows, err := c.(driver.QueryerContext).QueryContext(ctx, sql, named)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns := rows.Columns()
	var list []row
	values := make([]driver.Value, len(columns))
	for {
		if err := rows.Next(values); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		r := make(row, len(columns))
		for i, v := range values {
			switch v := v.(type) {
			case nil:
				r[columns[i]] = ""
			case []byte:
				r[columns[i]] = string(v)
			default:
				r[columns[i]] = fmt.Sprint(v)
			}
		}
		list = append(list, r)
	}
}

// one returns the only row of a statement.
func one(ctx context.Context, c driver.Conn, sql string, args ...any) (row, error) {
	rows, err := query(ctx, c, sql, args...)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, fmt.Errorf("the server answered with %d rows to %q, want 1", len(rows), sql)
	}
	return rows[0], nil
}

func (r row) number(column string) (uint64, error) {
	n, err := strconv.ParseUint(r[column], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the server says that %s is %q, want a number", column, r[column])
	}
	return n, nil
}

// on reports whether a setting is switched on.
func (r row) on(column string) bool { return r[column] == "1" || strings.EqualFold(r[column], "ON") }

// Codes of errors (errmsg-utf8.txt).
const (
	codeTooMany     = 1040 // connections
	codeNoDatabase  = 1044
	codeNoAccess    = 1045
	codeShutdown    = 1053
	codeNoTable     = 1142
	codeTooManyUser = 1203
	codeNoPrivilege = 1227
	codeBinlog      = 1236 // the stream can't go on
	codeNoLogin     = 1698
	codeKilled      = 1927
	codeNoBinlog    = 1381
)

// trouble returns the condition that an error of a connection amounts to.
func trouble(err error) (health.Code, string) {
	var answer *mysql.MySQLError
	var refused *net.OpError
	switch {
	case errors.As(err, &answer):
		switch answer.Number {
		case codeNoAccess, codeNoLogin:
			return health.DatabaseSetup, "the database refused the login: " + answer.Message
		case codeNoPrivilege, codeNoTable, codeNoDatabase:
			return health.DatabaseSetup, "the database user lacks a privilege: " + answer.Message
		case codeTooMany, codeTooManyUser:
			return health.DatabaseSetup, "the database has no connection left (max_connections): " + answer.Message
		case codeShutdown, codeKilled:
			return health.DatabaseDown, "the database is stopping: " + answer.Message
		case codeNoBinlog:
			return health.DatabaseSetup, "log_bin is off, want it on (set it and restart the server)"
		}
		return health.DatabaseSetup, "the database answered: " + answer.Message
	case errors.As(err, &refused):
		return health.DatabaseDown, fmt.Sprintf("the database at %v can't be reached: %v", refused.Addr, refused.Err)
	}
	return health.DatabaseDown, "the database can't be reached: " + err.Error()
}
