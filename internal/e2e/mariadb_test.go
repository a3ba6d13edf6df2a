package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"repld/control"
	"repld/dblog/binlog/binlogtest"
	"repld/internal/pairtest"
	"repld/internal/testfs"
)

// mariadbSeat is the engine MariaDB.
type mariadbSeat struct{}

func (mariadbSeat) ids(t testing.TB) (uid, gid int) { return binlogtest.IDs(t) }

func (e mariadbSeat) socket(s *seat) string { return filepath.Join(s.host, "s") }

func (e mariadbSeat) commands(s *seat) (start, stop, end string) {
	return binlogCommands(s, binlogtest.MariaDB, e.socket(s), e.pid(s))
}

// binlogCommands are [seatEngine.commands] of a server of either kind.
func binlogCommands(s *seat, k binlogtest.Kind, socket, pid string) (start, stop, end string) {
	options := fmt.Sprintf("--no-defaults --datadir=%s --socket=%s --skip-networking --pid-file=%s --server-id=%d --tmpdir=%s %s",
		s.data, socket, pid, len(s.name)+int(s.name[0]), s.host, strings.Join(k.Settings(), " "))
	// Another server on the same data waits for their locks, and then goes on from the
	// state of the log that it has read before.
	start = fmt.Sprintf("setsid %s -n %s.lock %s %s >>%s.log 2>&1 &", testfs.NeedProgram(s.t, "flock", "util-linux"), s.data, k.Program(s.t, k.Daemon()), options, s.data)
	stop = fmt.Sprintf("exec %s --no-defaults --socket=%s --user=root shutdown", k.Program(s.t, k.Admin()), socket)
	return start, stop, fmt.Sprintf("kill -9 $(cat %s)", pid)
}

func (mariadbSeat) block(s *seat) (word, keys string) {
	return "mariadb", s.dataKeys() + ", spool_limit: 1GiB"
}

func (e mariadbSeat) dsn(s *seat) string { return fmt.Sprintf("root@unix(%s)/", e.socket(s)) }

func (mariadbSeat) create(s *seat) { binlogtest.MariaDB.Create(s.t, s.data) }

func (mariadbSeat) pid(s *seat) string { return filepath.Join(s.host, "pid") }

func (e mariadbSeat) database(s *seat) database {
	return mariadbDatabase{pairtest.MariaDB{DSN: e.dsn(s)}, s.node}
}

// mariadbDatabase asks the node's gate where the replica is: the server knows it by GTID
// only.
type mariadbDatabase struct {
	pairtest.MariaDB
	node *node
}

func (m mariadbDatabase) Replayed(ctx context.Context) (string, error) {
	c := m.node.client()
	defer c.Close()
	list, err := c.Databases(ctx, control.DatabaseRequest{Name: paired})
	if err != nil {
		return "", err
	}
	for _, b := range list.Databases {
		if b.Name == paired {
			return b.Replayed, nil
		}
	}
	return "", fmt.Errorf("no database %s in %+v", paired, list)
}

func (mariadbSeat) name() string { return "MariaDB" }

func (mariadbSeat) seeds() bool { return false }

func (mariadbSeat) kept(s *seat) []string { return s.keptData() }

func (e mariadbSeat) order(s *seat, o *pairtest.Order) { o.MariaDB = e.dsn(s) }

func (mariadbSeat) schema() string { return "USE pairs" }

func (mariadbSeat) prepare(*seat) {}

func (e mariadbSeat) sound(s *seat) string {
	s.t.Helper()
	sums, err := pairtest.MariaDB{DSN: e.dsn(s)}.Sound(s.t.Context())
	if err != nil {
		s.t.Fatalf("the server of %s: %v", s.name, err)
	}
	return sums
}

// TestMariaDBChangesSides is TestDatabaseChangesSides with another engine.
func TestMariaDBChangesSides(t *testing.T) {
	t.Parallel()
	changeSides(t, mariadbSeat{}, false)
}
