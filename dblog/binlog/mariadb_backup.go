package binlog

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"repld/change"
	"repld/program"
)

// Programs of MariaDB, by their names since 10.5 (Debian: mariadb-backup).
const (
	backupProgram = "mariadb-backup"
	streamProgram = "mbstream"
)

func (mariadbDialect) seedable(context.Context, driver.Conn, string) error { return nil }

func (mariadbDialect) programs() []string { return []string{backupProgram, streamProgram} }

// backup has mariadb-backup write to w as mbstream does. Where it ends shows when it is
// restored.
func (d mariadbDialect) backup(ctx context.Context, s *Source, w io.Writer) (Backup, error) {
	var b Backup
	var err error
	if b.Start, err = s.Prepare(ctx); err != nil {
		return b, err
	}
	var dataDir string
	err = s.work.with(ctx, func(c driver.Conn) error {
		who, err := d.identify(ctx, c)
		dataDir = who.vars["datadir"]
		return err
	})
	if err != nil {
		return b, s.noted(err)
	}
	temp, err := os.MkdirTemp(s.opts.Dir, "backup-")
	if err != nil {
		return b, err
	}
	defer os.RemoveAll(temp)
	options := filepath.Join(temp, "options.cnf")
	if err := os.WriteFile(options, []byte(s.clientOptions()), 0o600); err != nil {
		return b, err
	}
	err = run(ctx, nil, w, backupProgram, "--defaults-file="+options, "--backup", "--stream=mbstream",
		"--target-dir="+filepath.Join(temp, "target"), "--datadir="+dataDir)
	return b, readable(err)
}

// readable explains an error of the program that comes of access(2), which doesn't know
// of capabilities unless SECBIT_NO_SETUID_FIXUP is set (capabilities(7)).
func readable(err error) error {
	if err == nil || os.Geteuid() == 0 || !strings.Contains(err.Error(), "must be readable") && !strings.Contains(err.Error(), "Can't open") {
		return err
	}
	return fmt.Errorf("%w; it counts only permissions unless the service has SecureBits=no-setuid-fixup", err)
}

// clientOptions is an option file with the login. A password must not stand where other
// users can read it, such as a command line.
func (s *Source) clientOptions() string {
	var b strings.Builder
	b.WriteString("[mariadb-backup]\n")
	line := func(key, value string) {
		fmt.Fprintf(&b, "%s=\"%s\"\n", key, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value))
	}
	line("user", s.config.User)
	if s.config.Passwd != "" {
		line("password", s.config.Passwd)
	}
	if s.config.Net == "unix" {
		line("socket", s.config.Addr)
		return b.String()
	}
	host, port, err := net.SplitHostPort(s.config.Addr)
	if err != nil {
		host, port = s.config.Addr, "3306"
	}
	line("host", host)
	line("port", port)
	line("protocol", "tcp")
	return b.String()
}

// restore is part of [seedWords].
func (mariadbDialect) restore(ctx context.Context, r io.Reader, o RestoreOptions) (Backup, error) {
	var b Backup
	if err := run(ctx, r, nil, streamProgram, "-x", "-C", o.DataDir); err != nil {
		return b, fmt.Errorf("unpack the backup: %w", err)
	}
	if err := run(ctx, nil, nil, backupProgram, "--no-defaults", "--prepare", "--target-dir="+o.DataDir); err != nil {
		return b, fmt.Errorf("prepare the backup: %w", err)
	}
	end, err := backupEnd(o.DataDir)
	return Backup{End: end}, err
}

// backupEnd reads where a backup ends from the file that the program left: name,
// position and GTID of the binary log, separated by tabs.
func backupEnd(dir string) (change.StreamPosition, error) {
	var at change.StreamPosition
	text, err := os.ReadFile(filepath.Join(dir, "xtrabackup_binlog_info"))
	if errors.Is(err, fs.ErrNotExist) {
		text, err = os.ReadFile(filepath.Join(dir, "mariadb_backup_binlog_info")) // since 11.1
	}
	if err != nil {
		return at, fmt.Errorf("the backup doesn't say where it ends: %w", err)
	}
	f := strings.Fields(string(text))
	if len(f) < 2 {
		return at, fmt.Errorf("the backup says that it ends at %q, want a binary log and a position", text)
	}
	if at.Chapter, err = fileNumber(f[0]); err != nil {
		return at, err
	}
	at.Offset, err = strconv.ParseUint(f[1], 10, 64)
	return at, err
}

// maxTold bounds what is kept of a program's messages, in bytes.
const maxTold = 4 << 10

// tail keeps the last bytes that are written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 2*maxTold {
		t.b = append(t.b[:0], t.b[len(t.b)-maxTold:]...)
	}
	return len(p), nil
}

// run runs a program. What it says comes with its error only.
func run(ctx context.Context, in io.Reader, out io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	var said tail
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &said
	if out == nil {
		cmd.Stdout = &said
	}
	err := program.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return setupError{fmt.Sprintf("the program %s isn't there, want it installed (Debian: mariadb-backup)", name)}
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(said.b[max(0, len(said.b)-1000):]))
	}
	return nil
}
