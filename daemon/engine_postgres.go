package daemon

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"

	"repld/config"
	"repld/control"
	"repld/dblog"
	"repld/dblog/postgres"
)

var postgresEngine = engine{primary: postgresPrimary, standby: postgresStandby, commands: postgresCommands, down: postgres.Down, settings: postgres.Settings}

// slotName is the replication slot of a database: what slots may be named by is less
// than what groups and databases may.
func slotName(group, database string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(group+"_"+database))
	return "repld_" + clean[:min(len(clean), 50)]
}

func postgresPrimary(o databaseOptions) (dblog.Primary, error) {
	s, err := postgres.NewSource(postgres.SourceOptions{
		Name: o.Name, DSN: o.dsn, Slot: slotName(o.group, o.Name), SlotLimit: int64(o.Postgres.SlotLimit),
		DataDir: o.DataDir, Spool: o.spool, Logger: o.logger,
	})
	if err != nil {
		return nil, control.Errorf(control.ExitUsage, "database %s: %w", o.Name, err)
	}
	return postgresSource{s}, nil
}

type postgresSource struct{ *postgres.Source }

// Backup is [dblog.Primary.Backup].
func (s postgresSource) Backup(ctx context.Context, w io.Writer) ([]byte, error) {
	if _, err := s.Prepare(ctx); err != nil {
		return nil, err
	}
	made, err := s.BaseBackup(ctx, w)
	if err != nil {
		return nil, err
	}
	return json.Marshal(made)
}

func postgresStandby(o databaseOptions) (dblog.Standby, error) {
	uid, gid, err := owner(o.Database)
	if err != nil {
		return nil, err
	}
	socket := o.Postgres.SocketDir
	if socket == "" {
		socket = filepath.Join(o.runtime, "gate-"+o.Name)
	}
	if err := os.MkdirAll(socket, 0o700); err != nil {
		return nil, err
	}
	// The replica's user must get to the socket; who connects is asked for its user id.
	if err := os.Chmod(socket, 0o755); err != nil {
		return nil, err
	}
	g, err := postgres.OpenGate(postgres.GateOptions{
		Name: o.Name, Dir: o.dir, Spool: o.spool, SocketDir: socket, Users: []uint32{uint32(uid)}, ReplicaDSN: o.dsn,
		Slot: slotName(o.group, o.Name), Logger: o.logger,
	})
	if err != nil {
		return nil, err
	}
	return postgresGate{g, o.Database, uid, gid}, nil
}

type postgresGate struct {
	*postgres.Gate
	conf     config.Database
	uid, gid int
}

func (g postgresGate) options() postgres.RestoreOptions {
	conninfo, passfile := g.Conninfo(g.conf.DataDir)
	return postgres.RestoreOptions{DataDir: g.conf.DataDir, UID: g.uid, GID: g.gid, Conninfo: conninfo, Passfile: passfile}
}

// Restore is [dblog.Joiner.Restore].
func (g postgresGate) Restore(_ context.Context, r io.Reader) error {
	return postgres.Restore(r, g.options())
}

// Seeded is [dblog.Joiner.Seeded].
func (g postgresGate) Seeded(tail []byte) error {
	var made postgres.Backup
	if err := json.Unmarshal(tail, &made); err != nil {
		return err
	}
	return g.Gate.Seeded(made)
}

// Rejoin is [dblog.Joiner.Rejoin].
func (g postgresGate) Rejoin(ctx context.Context) error { return g.Gate.Rejoin(ctx, g.options()) }

func postgresCommands(c config.Database) (start, stop []string) { return postgres.Commands(c.DataDir) }
