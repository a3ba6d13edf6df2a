package config

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"

	"repld/change"
)

// Database is a database that is held at the barriers of its group.
type Database struct {
	Name   string // unique in its group; fits a file name
	Engine string // one of package change; names the block that it has
	Server
	Postgres Postgres
	MariaDB  MariaDB
	MySQL    MySQL
	Exec     Exec
	Redis    Redis
}

// Server is what the blocks of all engines can say of this node's server: on the
// primary the one that is replicated, on the standby its replica. Either may become
// the other.
type Server struct {
	DSN       string // how this node's server is reached, in the form of the engine; or
	DSNFile   string // a file that holds it, absolute and clean
	SpoolSize Size   // standby: of the stream that waits for a barrier

	// DataDir is the server's data directory, which `replctl database seed` makes on
	// a standby; "" = nothing is made or moved there. User is whose it is.
	DataDir, User string
	// Start and Stop are commands that start the server and shut it down cleanly,
	// waiting for that; none: the engine's default, if there is one.
	Start, Stop []string
}

// Postgres is what only a PostgreSQL server has.
type Postgres struct {
	SlotLimit Size // primary: of WAL that is kept for the standby, before the slot is dropped
	// SocketDir is the directory of the Unix socket through which the replica gets its
	// WAL, on the standby; "" = gate-NAME beside the control socket.
	SocketDir string
}

// MariaDB is what only a MariaDB server has.
type MariaDB struct {
	// GatePort is the port of the loopback address from which the replica gets its binary
	// log, on the standby; 0 = one that is free, and the same one from then on.
	GatePort int
}

// MySQL is what only a MySQL server has.
type MySQL struct {
	GatePort int // as of [MariaDB]
	// CloneDir is a directory in which the primary's server writes the copy that a seed
	// carries, and in which it has room for one.
	CloneDir string
}

// Defaults of databases.
const (
	DefaultSlotLimit   = 16 << 30
	DefaultSpoolSize   = 16 << 30
	DefaultUser        = "postgres"
	DefaultMariaDBUser = "mysql"
	DefaultMySQLUser   = "mysql"
	DefaultCloneDir    = "/var/lib/mysql-files"
)

var (
	databaseLevel = &level{"a database", []string{"name", "postgres", "mariadb", "mysql", "exec", "redis"}}
	postgresLevel = &level{"postgres", []string{"dsn", "dsn_file", "slot_limit", "spool_limit", "socket_dir", "data_dir", "user", "start", "stop"}}
	mysqlLevel    = &level{"mysql", []string{"dsn", "dsn_file", "spool_limit", "gate_port", "clone_dir", "data_dir", "user", "start", "stop"}}
	mariadbLevel  = &level{"mariadb", []string{"dsn", "dsn_file", "spool_limit", "gate_port", "data_dir", "user", "start", "stop"}}
)

// engines read the blocks of the engines, by the engine's word, which is the key of
// its block.
var engines = []struct {
	word string
	read func(r *reader, n ast.Node, group string, d *Database)
}{
	{change.EnginePostgres, (*reader).postgres},
	{change.EngineMariaDB, (*reader).mariadb},
	{change.EngineMySQL, (*reader).mysql},
	{change.EngineExec, (*reader).exec},
	{change.EngineRedis, (*reader).redis},
}

func (r *reader) databases(f fields, g *Group) {
	v, ok := f.get("databases")
	if !ok {
		return
	}
	names := newNames("database")
	for _, item := range r.list(v) {
		var d Database
		if f, ok := r.mapping(item, databaseLevel, "a database", ""); ok {
			r.name(f, "a database", &d.Name, names)
			r.note("groups."+g.Name+".databases."+d.Name+".", f)
			r.engine(f, g.Name, &d)
		}
		g.Databases = append(g.Databases, d)
	}
}

// engine reads the block of a database's engine, of which there must be one.
func (r *reader) engine(f fields, group string, d *Database) {
	given := false // also one that is refused
	for key := range f.m {
		given = given || key != "name"
	}
	if !given {
		list := words()
		last := len(list) - 1
		r.wrong(f.at, "", "the engine is missing in a database: want %s or %s", strings.Join(list[:last], ", "), list[last])
	}
	for _, e := range engines {
		v, ok := f.get(e.word)
		if !ok {
			continue
		}
		if d.Engine != "" {
			r.wrong(v.key, "", "%s and %s are both given, want one engine", d.Engine, e.word)
			continue
		}
		d.Engine = e.word
		e.read(r, v.value, group, d)
	}
}

func words() (list []string) {
	for _, e := range engines {
		list = append(list, e.word)
	}
	return list
}

// block opens the block of an engine.
func (r *reader) block(n ast.Node, l *level, group string, d *Database) (fields, bool) {
	f, ok := r.mapping(n, l, l.what, l.what+".")
	if ok {
		r.note("groups."+group+".databases."+d.Name+"."+l.what+".", f)
	}
	return f, ok
}

// server reads what all blocks have; dsn checks a connection string.
func (r *reader) server(f fields, what, group string, d *Database, dsn func(string) (string, error)) {
	text, hasDSN := f.get("dsn")
	file, hasFile := f.get("dsn_file")
	switch {
	case hasDSN && hasFile:
		r.wrong(file.key, "", "dsn and dsn_file are both given, want one of them")
	case hasFile:
		r.text(file, &d.DSNFile, checkPath)
	case hasDSN:
		r.text(text, &d.DSN, dsn)
	default:
		r.wrong(f.at, "", "dsn is missing in %s: want the connection string of this node's server, or dsn_file", what)
	}
	maybe(r, f, "spool_limit", &d.SpoolSize, ParseSize)
	if v, ok := f.get("data_dir"); ok && r.text(v, &d.DataDir, checkPath) {
		r.place(placed{what: "the data directory of " + group + "/" + d.Name, path: d.DataDir, at: at(v.value), is: placeData})
	}
	if v, ok := f.get("user"); ok {
		r.text(v, &d.User, checkUser)
	}
	if v, ok := f.get("start"); ok {
		d.Start = r.command(v)
	}
	if v, ok := f.get("stop"); ok {
		d.Stop = r.command(v)
	}
}

func (r *reader) postgres(n ast.Node, group string, d *Database) {
	d.Server, d.Postgres = Server{SpoolSize: DefaultSpoolSize, User: DefaultUser}, Postgres{SlotLimit: DefaultSlotLimit}
	f, ok := r.block(n, postgresLevel, group, d)
	if !ok {
		return
	}
	r.server(f, "postgres", group, d, checkDSN)
	maybe(r, f, "slot_limit", &d.Postgres.SlotLimit, ParseSize)
	if v, ok := f.get("socket_dir"); ok {
		r.text(v, &d.Postgres.SocketDir, checkPath)
	}
}

func (r *reader) mariadb(n ast.Node, group string, d *Database) {
	d.Server = Server{SpoolSize: DefaultSpoolSize, User: DefaultMariaDBUser}
	f, ok := r.block(n, mariadbLevel, group, d)
	if !ok {
		return
	}
	r.server(f, "mariadb", group, d, checkMariaDSN)
	maybe(r, f, "gate_port", &d.MariaDB.GatePort, parsePort)
}

func (r *reader) mysql(n ast.Node, group string, d *Database) {
	d.Server, d.MySQL = Server{SpoolSize: DefaultSpoolSize, User: DefaultMySQLUser}, MySQL{CloneDir: DefaultCloneDir}
	f, ok := r.block(n, mysqlLevel, group, d)
	if !ok {
		return
	}
	r.server(f, "mysql", group, d, checkMariaDSN)
	maybe(r, f, "gate_port", &d.MySQL.GatePort, parsePort)
	if v, ok := f.get("clone_dir"); ok {
		r.text(v, &d.MySQL.CloneDir, checkPath)
	}
}

func parsePort(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 65535 {
		return 0, &valueError{found: s, want: "a port, 1 to 65535"}
	}
	return n, nil
}

// checkMariaDSN accepts USER@unix(PATH)/ and USER@tcp(HOST:PORT)/, without a password.
func checkMariaDSN(s string) (string, error) {
	user, rest, ok := strings.Cut(s, "@")
	if at := strings.LastIndex(s, "@"); at > len(user) {
		user, rest = s[:at], s[at+1:]
	}
	known := strings.HasPrefix(rest, "unix(") || strings.HasPrefix(rest, "tcp(")
	if !ok || user == "" || !known || !strings.Contains(rest, ")/") || !utf8.ValidString(s) {
		// It isn't shown: it may hold a password.
		return "", errors.New(`want a connection string such as "repld@unix(/run/mysqld/mysqld.sock)/" or "repld@tcp(127.0.0.1:3306)/"`)
	}
	if strings.Contains(user, ":") {
		return "", errors.New("it holds a password; put it into a file of its own and name that with dsn_file, or use authentication by the socket (unix_socket, auth_socket)")
	}
	return s, nil
}

// checkDSN accepts a connection string without a password: the file is read by more
// people than a password should be.
func checkDSN(s string) (string, error) {
	if s == "" || !utf8.ValidString(s) {
		return "", &valueError{found: s, want: `a connection string such as "host=/run/postgresql dbname=shop"`}
	}
	if strings.Contains(s, "password=") || hasURLPassword(s) {
		return "", errors.New("it holds a password; put it into a file of its own and name that with dsn_file, or use peer authentication")
	}
	return s, nil
}

// hasURLPassword reports whether a URL names a password.
func hasURLPassword(s string) bool {
	_, rest, isURL := strings.Cut(s, "://")
	user, _, hasUser := strings.Cut(rest, "@")
	return isURL && hasUser && strings.Contains(user, ":")
}

func checkUser(s string) (string, error) {
	if s == "" || strings.ContainsAny(s, " \t\n:/") {
		return "", &valueError{found: s, want: "the name of a user"}
	}
	return s, nil
}
