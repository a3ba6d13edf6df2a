package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"os/user"

	"repld/change"
	"repld/config"
	"repld/control"
	"repld/dblog"
	"repld/dblog/spool"
)

// engine opens the servers of one kind of database. Each has a file of its own,
// engine_NAME.go, with its entry in engines.
type engine struct {
	primary func(databaseOptions) (dblog.Primary, error)
	standby func(databaseOptions) (dblog.Standby, error)
	// commands returns the commands that start the server of a data directory and shut
	// it down where the configuration has none; nil: there are none.
	commands func(config.Database) (start, stop []string)
	// down reports whether provably no server listens where a connection string leads; nil:
	// that can't be told.
	down func(ctx context.Context, dsn string) bool
	// settings asks a server for what should be the same on both nodes, further names among
	// it; nil: nothing is compared.
	settings func(ctx context.Context, dsn string, further []string) (map[string]string, error)
	// bare servers have no data directory of which repld knows: none is made or set aside.
	bare bool
	// fed servers get all that they have through the gate, which keeps what a seed brought:
	// they need no data directory either, and may run all the time. What a former primary
	// has its gate keeps, which is a forgetter.
	fed bool
	// cache opens a server that isn't replicated but flushed; then there is nothing of
	// the above. isCache says which are; nil: none is.
	cache   func(databaseOptions) (cacheServer, error)
	isCache func(config.Database) bool
}

// engines are those that this version knows, by the words of package change.
var engines = map[string]engine{
	change.EnginePostgres: postgresEngine,
	change.EngineMariaDB:  mariadbEngine,
	change.EngineMySQL:    mysqlEngine,
	change.EngineExec:     execEngine,
	change.EngineRedis:    redisEngine,
}

func engineOf(c config.Database) (engine, error) {
	e, ok := engines[c.Engine]
	if !ok {
		return e, control.Errorf(control.ExitUsage, "database %s: the engine %q is not in this version", c.Name, c.Engine)
	}
	return e, nil
}

// databaseOptions are what an engine opens a server with.
type databaseOptions struct {
	config.Database
	dsn   string // the connection string, wherever it stands
	group string
	// dir is an existing directory for what the engine must know after a crash;
	// standbys only.
	dir string
	// home is a directory for what the engine must know of this node's server on either
	// side. The engine makes it.
	home string
	// former says that this node's server was a primary until its peer was promoted;
	// standbys only.
	former bool
	// salvaged tells of a file with what this node's server had before it became a replica;
	// standbys only.
	salvaged func(path string)
	// runtime is the directory of the control socket. What a replica connects to
	// lies beside that, unless the configuration says where.
	runtime string
	spool   *spool.Spool
	logger  *slog.Logger
}

// dsn reads a database's connection string.
func dsn(c config.Database) (string, error) {
	if c.DSNFile == "" {
		return c.DSN, nil
	}
	text, err := os.ReadFile(c.DSNFile)
	if err != nil {
		return "", control.Errorf(control.ExitUsage, "dsn_file of database %s: %w", c.Name, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// databaseOptions returns what one of the group's databases is opened with.
func (g *group) databaseOptions(c config.Database, sp *spool.Spool) (databaseOptions, error) {
	text, err := dsn(c)
	if err != nil {
		return databaseOptions{}, err
	}
	return databaseOptions{Database: c, dsn: text, group: g.name, dir: g.file(filepath.Join("gates", c.Name)),
		home: g.file(filepath.Join("servers", c.Name)), runtime: filepath.Dir(g.node.conf.Control), spool: sp, logger: g.logger,
		salvaged: func(path string) { g.tellKept("the former content", c.Name, path) }}, nil
}

// owner returns the user that runs a server.
func owner(c config.Database) (uid, gid int, err error) {
	u, err := user.Lookup(c.User)
	if err != nil {
		return 0, 0, control.Errorf(control.ExitUsage, "database %s: %w", c.Name, err).WithHint("user: names who runs the server")
	}
	uid, err = strconv.Atoi(u.Uid)
	if err == nil {
		gid, err = strconv.Atoi(u.Gid)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("database %s: user %s: %w", c.Name, c.User, err)
	}
	return uid, gid, nil
}
