package daemon

import (
	"context"
	"encoding/json"
	"io"
	"os"

	"repld/config"
	"repld/control"
	"repld/dblog"
	"repld/dblog/binlog"
)

// mariadbEngine has no commands of its own: the server is a unit of systemd's.
var mariadbEngine = engine{primary: mariadbPrimary, standby: mariadbStandby, down: binlog.Down, settings: binlog.Settings}

func mariadbPrimary(o databaseOptions) (dblog.Primary, error) {
	if err := os.MkdirAll(o.home, 0o700); err != nil {
		return nil, err
	}
	s, err := binlog.NewSource(binlog.SourceOptions{
		Name: o.group + "/" + o.Name, DSN: o.dsn, Spool: o.spool, Dir: o.home, Logger: o.logger,
	})
	if err != nil {
		return nil, control.Errorf(control.ExitUsage, "database %s: %w", o.Name, err)
	}
	return mariadbSource{s}, nil
}

type mariadbSource struct{ *binlog.Source }

// Backup is [dblog.Primary.Backup].
func (s mariadbSource) Backup(ctx context.Context, w io.Writer) ([]byte, error) {
	made, err := s.Source.Backup(ctx, w)
	if err != nil {
		return nil, err
	}
	return json.Marshal(made)
}

func mariadbStandby(o databaseOptions) (dblog.Standby, error) {
	uid, gid, err := owner(o.Database)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.home, 0o700); err != nil {
		return nil, err
	}
	g, err := binlog.OpenGate(binlog.GateOptions{
		Name: o.Name, Dir: o.dir, Home: o.home, Spool: o.spool, Port: o.MariaDB.GatePort, ReplicaDSN: o.dsn, Logger: o.logger,
	})
	if err != nil {
		return nil, err
	}
	return &mariadbGate{Gate: g, conf: o.Database, uid: uid, gid: gid}, nil
}

type mariadbGate struct {
	*binlog.Gate
	conf     config.Database
	uid, gid int

	restored binlog.Backup // by the last Restore, which Seeded follows
}

// Restore is [dblog.Joiner.Restore].
func (g *mariadbGate) Restore(ctx context.Context, r io.Reader) (err error) {
	g.restored, err = binlog.Restore(ctx, r, binlog.RestoreOptions{DataDir: g.conf.DataDir, UID: g.uid, GID: g.gid})
	return err
}

// Seeded is [dblog.Joiner.Seeded].
func (g *mariadbGate) Seeded(tail []byte) error {
	var made binlog.Backup
	if err := json.Unmarshal(tail, &made); err != nil {
		return err
	}
	made.End = g.restored.End
	return g.Gate.Seeded(made)
}

// Rejoin is [dblog.Joiner.Rejoin].
func (g *mariadbGate) Rejoin(ctx context.Context) error { return g.Gate.Rejoin(ctx, g.conf.DataDir) }
