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
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"repld/internal/testfs"
)

// startTimeout bounds how long a server may take to start or stop.
const startTimeout = 60 * time.Second

// Server is a PostgreSQL server.
type Server struct {
	Data string // data directory
	Host string // directory of its socket

	t       testing.TB
	options []string
	cmd     *exec.Cmd
	done    chan struct{}
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

// IDs returns the user and group that servers run as.
func IDs(t testing.TB) (uid, gid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		return os.Geteuid(), os.Getegid()
	}
	for _, name := range []string{"postgres", "nobody"} {
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
	testfs.Missing(t, "needs a user that PostgreSQL may run as: postgres or nobody")
	return 0, 0
}

// Command prepares a program of PostgreSQL to be run as the servers' user.
func Command(ctx context.Context, t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, Program(t, name), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		uid, gid := IDs(t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	return cmd
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
	dir, err := os.MkdirTemp("", "pg")
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
	own(t, parent)
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
	s := &Server{Data: data, Host: filepath.Dir(data), t: t, options: options}
	t.Cleanup(func() {
		s.Stop(syscall.SIGQUIT)
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

// orphaned is what a server says at its end while children of a postmaster that was
// killed are still there.
const orphaned = "is still in use"

// relaunched starts the server again if that is why it ended.
func (s *Server) relaunched() bool {
	log, _ := os.ReadFile(s.logFile())
	if !strings.Contains(string(log[max(0, len(log)-400):]), orphaned) {
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
	cmd := Command(context.Background(), s.t, "postgres", args...)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
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
func (s *Server) DSN() string { return fmt.Sprintf("host=%s user=postgres dbname=postgres", s.Host) }

// WaitReady waits until the server answers.
func (s *Server) WaitReady() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		c, err := pgx.Connect(ctx, s.DSN())
		if err == nil {
			c.Close(ctx)
			return
		}
		select {
		case <-s.done:
			if s.relaunched() {
				continue
			}
			log, _ := os.ReadFile(s.logFile())
			s.t.Fatalf("the server at %s ended:\n%s", s.Data, log[max(0, len(log)-3000):])
		case <-ctx.Done():
			s.t.Fatalf("the server at %s doesn't answer: %v", s.Data, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop sends the server a signal and waits until it has ended: SIGTERM, SIGINT and
// SIGQUIT are its smart, fast and immediate shutdown; SIGKILL takes the postmaster
// alone, and its children follow.
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

// Log returns the server's log.
func (s *Server) Log() string {
	s.t.Helper()
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}
