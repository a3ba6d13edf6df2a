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
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"repld/internal/testfs"
)

// startTimeout bounds how long a server may take to start or stop.
const startTimeout = 60 * time.Second

// Server is a server.
type Server struct {
	Data   string // data directory
	Socket string // its Unix socket

	kind    Kind
	t       testing.TB
	options []string
	cmd     *exec.Cmd
	done    chan struct{}
}

// IDs returns the user and group that servers run as.
func IDs(t testing.TB) (uid, gid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		return os.Geteuid(), os.Getegid()
	}
	for _, name := range []string{"mysql", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil {
			return uid, gid
		}
	}
	testfs.Missing(t, "needs a user that a database may run as: mysql or nobody")
	return 0, 0
}

// command prepares a program to be run as the servers' user.
func (k Kind) command(ctx context.Context, t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, k.Program(t, name), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		uid, gid := IDs(t)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
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
	dir, err := os.MkdirTemp("", "my")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	own(t, dir)
	return dir
}

func own(t testing.TB, dir string) {
	t.Helper()
	uid, gid := IDs(t)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
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
	own(t, parent)
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
	s := &Server{kind: k, Data: data, Socket: filepath.Join(filepath.Dir(data), filepath.Base(data)+".sock"), t: t}
	s.options = append([]string{fmt.Sprintf("server-id=%d", serverIDs.Add(1))}, options...)
	t.Cleanup(func() {
		s.Stop(syscall.SIGKILL)
		if t.Failed() {
			log, _ := os.ReadFile(s.logFile())
			t.Logf("log of the server at %s:\n%s", data, log[max(0, len(log)-3000):])
		}
	})
	return s
}

func (s *Server) logFile() string { return s.Data + ".log" }

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
	cmd := s.kind.command(context.Background(), s.t, s.kind.Daemon(), args...)
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := startLocked(cmd); err != nil {
		s.t.Fatal(err)
	}
	s.cmd, s.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		_ = cmd.Wait() // however it ended
		close(done)
	}(s.done)
}

// parents starts children from a thread that never ends: Pdeathsig is sent when the
// thread ends, not the process (prctl(2)).
var parents = sync.OnceValue(func() chan func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

func startLocked(cmd *exec.Cmd) error {
	result := make(chan error)
	parents() <- func() { result <- cmd.Start() }
	return <-result
}

// DSN returns a connection string for the server.
func (s *Server) DSN() string { return fmt.Sprintf("root@unix(%s)/", s.Socket) }

// WaitReady waits until the server answers.
func (s *Server) WaitReady() {
	s.t.Helper()
	db := s.open("")
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return
		}
		select {
		case <-s.done:
			log, _ := os.ReadFile(s.logFile())
			s.t.Fatalf("the server at %s ended:\n%s", s.Data, log[max(0, len(log)-3000):])
		case <-ctx.Done():
			s.t.Fatalf("the server at %s doesn't answer: %v", s.Data, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop sends the server a signal and waits until it has ended: SIGTERM shuts it down
// cleanly, SIGKILL doesn't.
func (s *Server) Stop(sig syscall.Signal) {
	s.t.Helper()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig) // it may have ended
	select {
	case <-s.done:
	case <-time.After(startTimeout):
		s.t.Errorf("the server at %s doesn't end on %v", s.Data, sig)
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	s.cmd = nil
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

// Log returns the server's log.
func (s *Server) Log() string {
	s.t.Helper()
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}
