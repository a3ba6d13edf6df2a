package binlog

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Backup takes a backup of the server with mariadb-backup, writes it to w as mbstream
// does, and returns where its stream begins: End isn't set. It must run on the server's
// machine and be allowed to read the data directory.
func (s *Source) Backup(ctx context.Context, w io.Writer) (Backup, error) {
	var b Backup
	var err error
	if b.Start, err = s.Prepare(ctx); err != nil {
		return b, err
	}
	var dataDir string
	err = s.work.with(ctx, func(c driver.Conn) error {
		who, err := identify(ctx, c)
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
