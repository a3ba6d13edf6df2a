// Package binlogtest starts MariaDB and MySQL servers for tests, as children of the test
// in temporary directories. Only tests import it.
//
// MariaDB's programs are those of the PATH, MySQL's those of the directory in REPLD_MYSQL;
// without it there is no MySQL, and its tests are skipped. As root, servers run as the user
// mysql, or nobody. A server listens on a Unix socket only, and dies with the test's process.
package binlogtest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"

	"repld/dblog/dblogtest"
)

// Server is a server. SIGTERM shuts it down cleanly, SIGKILL doesn't.
type Server struct {
	*dblogtest.Process
	Socket string // its Unix socket

	kind    Kind
	t       testing.TB
	options []string
}

// users are who servers run as.
var users = dblogtest.User{"mysql", "nobody"}

// IDs returns the user and group that servers run as.
func IDs(t testing.TB) (uid, gid int) {
	t.Helper()
	return users.IDs(t)
}

// command prepares a program to be run as the servers' user. It dies with the test's
// process.
func (k Kind) command(ctx context.Context, t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := users.Command(ctx, t, k.Program(t, name), args...)
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return cmd
}

// templates are data directories to copy, one of a kind.
var templates struct {
	sync.Mutex
	dirs map[Kind]string
}

// Main runs a package's tests and removes what they share.
func Main(m *testing.M) int {
	defer Clean()
	return m.Run()
}

// Clean removes what the tests of a package share.
func Clean() {
	for _, dir := range templates.dirs {
		os.RemoveAll(filepath.Dir(dir))
	}
}

// Dir returns a directory that the servers' user owns. Its path is short enough for
// sockets.
func Dir(t testing.TB) string {
	t.Helper()
	return users.Dir(t, "my")
}

// initialised returns a data directory to copy, made once.
func (k Kind) initialised(t testing.TB) string {
	t.Helper()
	templates.Lock()
	defer templates.Unlock()
	if dir := templates.dirs[k]; dir != "" {
		return dir
	}
	parent, err := os.MkdirTemp("", "mytemplate")
	if err != nil {
		t.Fatal(err)
	}
	users.Own(t, parent)
	dir := filepath.Join(parent, "data")
	program, args := k.initialise(dir)
	if out, err := k.command(t.Context(), t, program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	if templates.dirs == nil {
		templates.dirs = make(map[Kind]string)
	}
	templates.dirs[k] = dir
	return dir
}

// New starts a server on an empty database; options are settings, "name=value".
func (k Kind) New(t testing.TB, options ...string) *Server {
	t.Helper()
	data := filepath.Join(Dir(t), "data")
	k.Create(t, data)
	s := k.At(t, data, options...)
	s.Start()
	return s
}

// Create makes an empty database in a directory that isn't there yet.
func (k Kind) Create(t testing.TB, data string) {
	t.Helper()
	cmd := exec.Command("cp", "-a", k.initialised(t), data)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("copy the template: %v\n%s", err, out)
	}
}

// serverIDs numbers the servers of a test's process.
var serverIDs atomic.Uint32

// At returns a server that isn't started yet, on a data directory.
func (k Kind) At(t testing.TB, data string, options ...string) *Server {
	return &Server{
		Process: dblogtest.NewProcess(t, data, syscall.SIGKILL), Socket: filepath.Join(filepath.Dir(data), filepath.Base(data)+".sock"),
		kind: k, t: t, options: append([]string{fmt.Sprintf("server-id=%d", serverIDs.Add(1))}, options...),
	}
}

// Start starts the server and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	s.Launch()
	s.WaitReady()
}

// Launch starts the server without waiting for it.
func (s *Server) Launch() {
	s.t.Helper()
	dir := filepath.Dir(s.Data)
	args := []string{"--no-defaults", "--datadir=" + s.Data, "--socket=" + s.Socket, "--skip-networking", "--pid-file=" + s.Data + ".pid",
		"--tmpdir=" + dir}
	args = append(args, s.kind.Settings()...)
	for _, o := range s.options {
		args = append(args, "--"+o)
	}
	s.Run(s.kind.command(context.Background(), s.t, s.kind.Daemon(), args...))
}

// DSN returns a connection string for the server.
func (s *Server) DSN() string { return fmt.Sprintf("root@unix(%s)/", s.Socket) }

// WaitReady waits until the server answers.
func (s *Server) WaitReady() {
	s.t.Helper()
	db := s.open("")
	defer db.Close()
	s.Await(db.PingContext, nil)
}

func (s *Server) open(database string) *sql.DB {
	s.t.Helper()
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr, config.DBName = "root", "unix", s.Socket, database
	config.MultiStatements, config.InterpolateParams, config.Logger = true, true, &mysql.NopLogger{}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		s.t.Fatal(err)
	}
	return sql.OpenDB(connector)
}

// DB returns connections to one of the server's databases, or to none; they are closed
// with the test.
func (s *Server) DB(database string) *sql.DB {
	s.t.Helper()
	db := s.open(database)
	s.t.Cleanup(func() { db.Close() })
	return db
}

// Exec runs statements, which are separated by semicolons.
func (s *Server) Exec(statements string) {
	s.t.Helper()
	db := s.open("")
	defer db.Close()
	if _, err := db.ExecContext(s.t.Context(), statements); err != nil {
		s.t.Fatalf("%s: %v", statements, err)
	}
}

// Value returns the only value of a query.
func (s *Server) Value(query string) string {
	s.t.Helper()
	db := s.open("")
	defer db.Close()
	var v sql.NullString
	if err := db.QueryRowContext(s.t.Context(), query).Scan(&v); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return v.String
}
