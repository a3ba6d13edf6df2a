package config

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
)

// Database is a database that is held at the barriers of its group.
type Database struct {
	Name     string // unique in its group; fits a file name
	Postgres Postgres
}

// Postgres is a PostgreSQL server: on the primary the one that is replicated, on the
// standby its replica.
type Postgres struct {
	DSN       string // connection string or URL of this node's server; or
	DSNFile   string // a file that holds one, absolute and clean
	SlotLimit Size   // primary: of WAL that is kept for the standby, before the slot is dropped
	SpoolSize Size   // standby: of WAL that waits for a barrier

	// SocketDir is the directory of the Unix socket through which the replica gets its
	// WAL, on the standby; "" = gate-NAME beside the control socket.
	SocketDir string
	// DataDir is the replica's data directory, which `replctl database seed` makes, and
	// User whose it is.
	DataDir, User string
	// Start is a command that starts the replica after it was made; none: by hand.
	Start []string
}

// Defaults of databases.
const (
	DefaultSlotLimit = 16 << 30
	DefaultSpoolSize = 16 << 30
	DefaultUser      = "postgres"
)

var (
	databaseLevel = &level{"a database", []string{"name", "postgres"}}
	postgresLevel = &level{"postgres", []string{"dsn", "dsn_file", "slot_limit", "spool_limit", "socket_dir", "data_dir", "user", "start"}}
)

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
			if v, ok := r.need(f, "postgres", "a database", "its engine"); ok {
				d.Postgres = r.postgres(v.value, g.Name, d.Name)
			}
		}
		g.Databases = append(g.Databases, d)
	}
}

func (r *reader) postgres(n ast.Node, group, name string) Postgres {
	p := Postgres{SlotLimit: DefaultSlotLimit, SpoolSize: DefaultSpoolSize, User: DefaultUser}
	f, ok := r.mapping(n, postgresLevel, "postgres", "postgres.")
	if !ok {
		return p
	}
	r.note("groups."+group+".databases."+name+".postgres.", f)
	dsn, hasDSN := f.get("dsn")
	file, hasFile := f.get("dsn_file")
	switch {
	case hasDSN && hasFile:
		r.wrong(file.key, "", "dsn and dsn_file are both given, want one of them")
	case hasFile:
		r.text(file, &p.DSNFile, checkPath)
	case hasDSN:
		r.text(dsn, &p.DSN, checkDSN)
	default:
		r.wrong(f.at, "", "dsn is missing in postgres: want the connection string of this node's server, or dsn_file")
	}
	maybe(r, f, "slot_limit", &p.SlotLimit, ParseSize)
	maybe(r, f, "spool_limit", &p.SpoolSize, ParseSize)
	if v, ok := f.get("socket_dir"); ok {
		r.text(v, &p.SocketDir, checkPath)
	}
	if v, ok := f.get("data_dir"); ok && r.text(v, &p.DataDir, checkPath) {
		r.place(placed{what: "the data directory of " + group + "/" + name, path: p.DataDir, at: at(v.value), is: placeData})
	}
	if v, ok := f.get("user"); ok {
		r.text(v, &p.User, checkUser)
	}
	if v, ok := f.get("start"); ok {
		p.Start = r.command(v)
	}
	return p
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
