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

// mariadbEngine and mysqlEngine have no commands of their own: the server is a unit of
// systemd's.
var (
	mariadbEngine = engine{primary: binlogPrimary, standby: binlogStandby, down: binlog.Down, settings: binlog.Settings}
	mysqlEngine   = engine{primary: binlogPrimary, standby: binlogStandby, down: binlog.Down, settings: binlog.Settings}
)

func binlogPrimary(o databaseOptions) (dblog.Primary, error) {
	if err := os.MkdirAll(o.home, 0o700); err != nil {
		return nil, err
	}
	s, err := binlog.NewSource(binlog.SourceOptions{
		Kind: binlog.Kind(o.Engine), CloneDir: o.MySQL.CloneDir,
		Name: o.group + "/" + o.Name, DSN: o.dsn, Spool: o.spool, Dir: o.home, Logger: o.logger,
	})
	if err != nil {
		return nil, control.Errorf(control.ExitUsage, "database %s: %w", o.Name, err)
	}
	return binlogSource{s}, nil
}

type binlogSource struct{ *binlog.Source }

// Backup is [dblog.Primary.Backup].
func (s binlogSource) Backup(ctx context.Context, w io.Writer) ([]byte, error) {
	made, err := s.Source.Backup(ctx, w)
	if err != nil {
		return nil, err
	}
	return json.Marshal(made)
}

func binlogStandby(o databaseOptions) (dblog.Standby, error) {
	uid, gid, err := owner(o.Database)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.home, 0o700); err != nil {
		return nil, err
	}
	g, err := binlog.OpenGate(binlog.GateOptions{
		Kind: binlog.Kind(o.Engine), Name: o.Name, Dir: o.dir, Home: o.home, Spool: o.spool, Port: max(o.MariaDB.GatePort, o.MySQL.GatePort), ReplicaDSN: o.dsn, Logger: o.logger,
	})
	if err != nil {
		return nil, err
	}
	return &binlogGate{Gate: g, conf: o.Database, uid: uid, gid: gid}, nil
}

type binlogGate struct {
	*binlog.Gate
	conf     config.Database
	uid, gid int

	restored binlog.Backup // by the last Restore, which Seeded follows
}

// Restore is [dblog.Joiner.Restore].
func (g *binlogGate) Restore(ctx context.Context, r io.Reader) (err error) {
	g.restored, err = binlog.Restore(ctx, r, binlog.RestoreOptions{Kind: binlog.Kind(g.conf.Engine), DataDir: g.conf.DataDir, UID: g.uid, GID: g.gid})
	return err
}

// Seeded is [dblog.Joiner.Seeded].
func (g *binlogGate) Seeded(tail []byte) error {
	var made binlog.Backup
	if err := json.Unmarshal(tail, &made); err != nil {
		return err
	}
	if made.End.IsZero() {
		made.End = g.restored.End
	}
	return g.Gate.Seeded(made)
}

// Rejoin is [dblog.Joiner.Rejoin].
func (g *binlogGate) Rejoin(ctx context.Context) error { return g.Gate.Rejoin(ctx, g.conf.DataDir) }
