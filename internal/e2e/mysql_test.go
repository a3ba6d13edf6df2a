package e2e

import (
	"testing"

	"repld/dblog/binlog/binlogtest"
)

// mysqlSeat is the engine MySQL. Its servers are talked to as MariaDB's.
type mysqlSeat struct{ mariadbSeat }

func (e mysqlSeat) commands(s *seat) (start, stop, end string) {
	return binlogCommands(s, binlogtest.MySQL, e.socket(s), e.pid(s))
}

func (e mysqlSeat) block(s *seat) (word, keys string) {
	_, keys = e.mariadbSeat.block(s)
	return "mysql", keys + ", clone_dir: " + s.host
}

func (mysqlSeat) create(s *seat) { binlogtest.MySQL.Create(s.t, s.data) }

func (mysqlSeat) name() string { return "MySQL" }

// TestMySQLChangesSides is TestDatabaseChangesSides with MySQL, where there is one.
func TestMySQLChangesSides(t *testing.T) {
	t.Parallel()
	binlogtest.MySQL.Program(t, "mysqld")
	changeSides(t, mysqlSeat{}, false)
}

// TestMySQLSoak is TestDatabaseSoak with MySQL.
func TestMySQLSoak(t *testing.T) {
	binlogtest.MySQL.Program(t, "mysqld")
	soakDatabase(t, mysqlSeat{})
}
