package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"repld/control"
	"repld/dblog/mariadb/mariadbtest"
	"repld/internal/pairtest"
)

// mariadbSeat is the engine MariaDB.
type mariadbSeat struct{}

func (mariadbSeat) ids(t testing.TB) (uid, gid int) { return mariadbtest.IDs(t) }

func (e mariadbSeat) socket(s *seat) string { return filepath.Join(s.host, "s") }

func (e mariadbSeat) commands(s *seat) (start, stop, end string) {
	options := fmt.Sprintf("--no-defaults --datadir=%s --socket=%s --skip-networking --pid-file=%s --server-id=%d --tmpdir=%s %s",
		s.data, e.socket(s), e.pid(s), len(s.name)+int(s.name[0]), s.host, strings.Join(mariadbtest.Settings(), " "))
	start = fmt.Sprintf("setsid %s %s >>%s.log 2>&1 &", mariadbtest.Program(s.t, "mariadbd"), options, s.data)
	stop = fmt.Sprintf("exec %s --no-defaults --socket=%s --user=root shutdown", mariadbtest.Program(s.t, "mariadb-admin"), e.socket(s))
	return start, stop, fmt.Sprintf("kill -9 $(cat %s)", e.pid(s))
}

func (mariadbSeat) block(*seat) (word, keys string) { return "mariadb", "spool_limit: 1GiB" }

func (e mariadbSeat) dsn(s *seat) string { return fmt.Sprintf("root@unix(%s)/", e.socket(s)) }

func (mariadbSeat) create(s *seat) { mariadbtest.Create(s.t, s.data) }

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

func (m mariadbDatabase) Replayed(context.Context) (string, error) {
	var list control.DatabaseList
	r := m.node.ctl("database", "status", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil {
		return "", fmt.Errorf("%w: %s%s", err, r.stdout, r.stderr)
	}
	for _, b := range list.Databases {
		if b.Name == paired {
			return b.Replayed, nil
		}
	}
	return "", fmt.Errorf("no database %s in %+v", paired, list)
}

// TestMariaDBChangesSides is TestDatabaseChangesSides with another engine.
func TestMariaDBChangesSides(t *testing.T) {
	t.Parallel()
	changeSides(t, mariadbSeat{}, false)
}
