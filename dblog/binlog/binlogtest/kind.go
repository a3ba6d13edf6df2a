package binlogtest

import (
	"os"
	"path/filepath"
	"testing"

	"repld/change"
	"repld/internal/testfs"
)

// Kind is which server it is: a word of package change.
type Kind string

// The servers that can be started.
const (
	MariaDB Kind = change.EngineMariaDB
	MySQL   Kind = change.EngineMySQL
)

// programs is the variable of the environment that says where MySQL's programs are.
const programs = "REPLD_MYSQL"

// Program returns the path of one of the kind's programs. Without MySQL the test is
// skipped, also where all that tests need must be there: few systems have it.
func (k Kind) Program(t testing.TB, name string) string {
	t.Helper()
	if k == MySQL {
		dir := os.Getenv(programs)
		if dir == "" {
			t.Skipf("needs MySQL: %s=/usr/sbin, or where its programs are (make mysql)", programs)
		}
		path, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/usr/bin"} {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode()&0o111 != 0 {
			return path
		}
	}
	debian := "mariadb-server-core"
	if name == k.Admin() {
		debian = "mariadb-client"
	}
	return testfs.NeedProgram(t, name, debian)
}

// Daemon returns the name of the server's program.
func (k Kind) Daemon() string {
	if k == MySQL {
		return "mysqld"
	}
	return "mariadbd"
}

// Admin returns the name of the program that shuts a server down.
func (k Kind) Admin() string {
	if k == MySQL {
		return "mysqladmin"
	}
	return "mariadb-admin"
}

// initialise returns what makes a data directory.
func (k Kind) initialise(dir string) (program string, args []string) {
	if k == MySQL {
		return "mysqld", []string{"--no-defaults", "--initialize-insecure", "--datadir=" + dir, "--secure-file-priv=NULL",
			"--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--loose-innodb-redo-log-capacity=32M"}
	}
	return "mariadb-install-db", []string{"--no-defaults", "--datadir=" + dir, "--auth-root-authentication-method=normal",
		"--skip-test-db", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--tmpdir=" + filepath.Dir(dir)}
}

// Settings returns the options of servers that are replicated, and are small.
func (k Kind) Settings() []string {
	both := []string{
		"--log-bin=binlog", "--binlog-format=ROW", "--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1",
		"--innodb-buffer-pool-size=32M", "--performance-schema=OFF", "--skip-name-resolve=ON", "--relay-log=relay", "--key-buffer-size=1M",
	}
	if k == MySQL {
		return append(both, "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--replica-parallel-workers=4", "--relay-log-recovery=ON",
			"--mysqlx=OFF", "--secure-file-priv=NULL", "--event-scheduler=OFF", "--loose-plugin-load-add=mysql_clone.so",
			"--loose-innodb-redo-log-capacity=32M")
	}
	return append(both, "--gtid-strict-mode=ON", "--log-slave-updates=ON", "--innodb-log-file-size=8M", "--slave-parallel-threads=4",
		"--slave-parallel-mode=optimistic", "--aria-pagecache-buffer-size=8M")
}
