// Package postgrestest starts PostgreSQL servers for tests, as children of the test in
// temporary directories. Only tests import it.
//
// The programs are those of the directory in REPLD_POSTGRES, else of Debian's newest
// package, else of the PATH. PostgreSQL refuses to run as root: there it runs as the
// user postgres, or nobody. A server dies with the test's process.
package postgrestest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"repld/dblog/dblogtest"
	"repld/internal/testfs"
)

// Server is a PostgreSQL server. It stops at SIGTERM, SIGINT and SIGQUIT by its smart, fast
// and immediate shutdown; SIGKILL takes the postmaster alone, and its children follow.
type Server struct {
	*dblogtest.Process
	Host string // directory of its socket

	t       testing.TB
	options []string
}

// Program returns the path of one of PostgreSQL's programs.
func Program(t testing.TB, name string) string {
	t.Helper()
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(dirs, func(a, b string) int { return len(b) - len(a) + strings.Compare(b, a) })
	if dir := os.Getenv("REPLD_POSTGRES"); dir != "" {
		dirs = []string{dir}
	}
	for _, dir := range dirs {
		if path := filepath.Join(dir, name); isProgram(path) {
			return path
		}
	}
	return testfs.NeedProgram(t, name, "postgresql")
}

// Has reports whether a program comes with the servers: some packages of them lack the
// tools.
func Has(t testing.TB, name string) bool {
	t.Helper()
	return isProgram(filepath.Join(filepath.Dir(Program(t, "postgres")), name))
}

func isProgram(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// users are who servers run as.
var users = dblogtest.User{"postgres", "nobody"}

// IDs returns the user and group that servers run as.
func IDs(t testing.TB) (uid, gid int) {
	t.Helper()
	return users.IDs(t)
}

// Command prepares a program of PostgreSQL to be run as the servers' user.
func Command(ctx context.Context, t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	return users.Command(ctx, t, Program(t, name), args...)
}

var template struct {
	sync.Mutex
	dir string
}

// Main runs a package's tests and removes what they share.
func Main(m *testing.M) int {
	code := m.Run()
	if template.dir != "" {
		os.RemoveAll(filepath.Dir(template.dir))
	}
	return code
}

// Dir returns a directory that the servers' user owns. Its path is short enough for
// sockets.
func Dir(t testing.TB) string {
	t.Helper()
	return users.Dir(t, "pg")
}

// initialised returns a data directory to copy, made once: with segments of 1 MiB, so
// that their borders are met often.
func initialised(t testing.TB) string {
	t.Helper()
	template.Lock()
	defer template.Unlock()
	if template.dir != "" {
		return template.dir
	}
	parent, err := os.MkdirTemp("", "pgtemplate")
	if err != nil {
		t.Fatal(err)
	}
	users.Own(t, parent)
	dir := filepath.Join(parent, "data")
	cmd := Command(t.Context(), t, "initdb", "-D", dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C",
		"--no-sync", "--wal-segsize=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	template.dir = dir
	return dir
}

// New starts a server on an empty database; options are settings, "name=value".
func New(t testing.TB, options ...string) *Server {
	t.Helper()
	dir := Dir(t)
	data := filepath.Join(dir, "data")
	cmd := exec.Command("cp", "-a", initialised(t), data)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("copy the template: %v\n%s", err, out)
	}
	s := At(t, data, options...)
	s.Start()
	return s
}

// At returns a server that isn't started yet, on a data directory.
func At(t testing.TB, data string, options ...string) *Server {
	return &Server{Process: dblogtest.NewProcess(t, data, syscall.SIGQUIT), Host: filepath.Dir(data), t: t, options: options}
}

// Start starts the server and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	s.Launch()
	s.WaitReady()
}

// orphaned is what a server says at its end while children of a postmaster that was
// killed are still there.
const orphaned = "is still in use"

// relaunched starts the server again if that is why it ended.
func (s *Server) relaunched() bool {
	if !strings.Contains(s.LogTail(400), orphaned) {
		return false
	}
	s.Launch()
	return true
}

// Launch starts the server without waiting for it.
func (s *Server) Launch() {
	s.t.Helper()
	args := []string{"-D", s.Data, "-k", s.Host, "-c", "listen_addresses="}
	for _, o := range append([]string{
		"fsync=on", "max_connections=40", "max_wal_senders=6", "shared_buffers=32MB", "logging_collector=off",
		"max_wal_size=64MB", "min_wal_size=32MB", "log_checkpoints=off",
	}, s.options...) {
		args = append(args, "-c", o)
	}
	s.Run(Command(context.Background(), s.t, "postgres", args...))
}

// DSN returns a connection string for the server.
func (s *Server) DSN() string { return fmt.Sprintf("host=%s user=postgres dbname=postgres", s.Host) }

// WaitReady waits until the server answers.
func (s *Server) WaitReady() {
	s.t.Helper()
	s.Await(func(ctx context.Context) error {
		c, err := pgx.Connect(ctx, s.DSN())
		if err == nil {
			c.Close(ctx)
		}
		return err
	}, s.relaunched)
}

// Connect opens a connection that is closed with the test.
func (s *Server) Connect() *pgx.Conn {
	s.t.Helper()
	c, err := pgx.Connect(s.t.Context(), s.DSN())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// Exec runs statements.
func (s *Server) Exec(sql string) {
	s.t.Helper()
	c, err := pgx.Connect(s.t.Context(), s.DSN())
	if err == nil {
		_, err = c.PgConn().Exec(s.t.Context(), sql).ReadAll()
		c.Close(s.t.Context())
	}
	if err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}
