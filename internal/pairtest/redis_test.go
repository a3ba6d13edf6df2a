package pairtest

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"repld/internal/testfs"
)

// TestRedisRows: what was committed is there, in each of the databases, and what was removed
// isn't; a transaction that fails says so.
func TestRedisRows(t *testing.T) {
	r := Redis{Socket: filepath.Join(t.TempDir(), "s")}
	cmd := exec.Command(testfs.NeedProgram(t, "redis-server", "redis-server"), "--port", "0", "--unixsocket", r.Socket, "--save", "", "--dir", filepath.Dir(r.Socket))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for end := time.Now().Add(20 * time.Second); r.Exec(t.Context(), "PING") != nil; <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the server doesn't answer")
		}
	}
	s, err := r.Session(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := map[Row]bool{}
	for op := range int64(5) {
		var rows []Row
		for file := range 3 {
			row := Row{Writer: 7, Op: op + 1, File: file}
			row.Digest[file] = byte(op)
			rows = append(rows, row)
			want[row] = op+1 > 3
		}
		if err := s.Commit(t.Context(), rows, 7, op-1); err != nil {
			t.Fatal(err)
		}
	}
	list, err := r.Rows(t.Context())
	if err != nil || len(list) != 6 {
		t.Fatalf("found %d rows, %v; want 6", len(list), err)
	}
	for _, row := range list {
		if !want[row] {
			t.Errorf("found %+v", row)
		}
	}
	if list, err = r.RowsFrom(t.Context(), 8); err != nil || len(list) > 0 {
		t.Errorf("found %v, %v of later writers", list, err)
	}
	if err := r.Exec(t.Context(), "REPLICAOF 127.0.0.1 1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), []Row{{Writer: 7, Op: 9}}, 7, 0); err == nil {
		t.Error("a replica has taken a transaction")
	}
}
