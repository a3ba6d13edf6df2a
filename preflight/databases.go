package preflight

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"repld/change"
	"repld/config"
)

// answerWithin bounds how long a database may take.
const answerWithin = 5 * time.Second

// socketPath is how long the path of a Unix socket may be (sockaddr_un).
const socketPath = 107

// engines check the servers of one kind of database each, in a file of its own.
var engines = map[string]engineCheck{
	change.EnginePostgres: {primary: (*check).postgresPrimary, standby: (*check).postgresStandby},
	change.EngineMariaDB:  {primary: (*check).binlogPrimary, standby: (*check).binlogStandby},
	change.EngineMySQL:    {primary: (*check).binlogPrimary, standby: (*check).binlogStandby},
	change.EngineExec:     {primary: (*check).execPrimary, standby: (*check).execPrimary},
	change.EngineRedis:    {primary: (*check).redisPrimary, standby: (*check).redisStandby},
}

// engineCheck checks a server as the one that is replicated, and as a replica, of
// which there need not be one yet.
type engineCheck struct {
	primary, standby func(k *check, ctx context.Context, d server)
}

// server is one that is checked.
type server struct {
	config.Database
	key  string // of its engine's block, with the dot behind it
	what string // in messages
	text string // the connection string, wherever it stands; "" if it can't be read
}

// databases checks the database servers of this node.
func (k *check) databases(ctx context.Context) {
	for _, g := range k.config.Groups {
		for _, c := range g.Databases {
			d := server{Database: c, key: "groups." + g.Name + ".databases." + c.Name + "." + c.Engine + ".", what: "the database " + g.Name + "/" + c.Name}
			e, ok := engines[c.Engine]
			if !ok {
				continue
			}
			k.dsn(&d)
			k.commands(d)
			if k.config.Designated == config.Primary {
				e.primary(k, ctx, d)
				continue
			}
			k.dataDir(d)
			e.standby(k, ctx, d)
		}
	}
}

// dsn reads the connection string.
func (k *check) dsn(d *server) {
	if d.DSNFile == "" {
		d.text = d.DSN
		return
	}
	text, err := os.ReadFile(d.DSNFile)
	if err != nil {
		k.wrong(d.key+"dsn_file", k.asUser(), "%s: the file %s: %s", d.what, d.DSNFile, cause(err))
		return
	}
	st, err := os.Stat(d.DSNFile)
	if err == nil && st.Mode()&0o007 != 0 {
		k.note("%s: %s has mode %04o: everybody may read or change the password in it", d.what, d.DSNFile, st.Mode().Perm())
	}
	d.text = strings.TrimSpace(string(text))
}

// commands checks what starts and stops the server.
func (k *check) commands(d server) {
	for name, argv := range map[string][]string{"start": d.Start, "stop": d.Stop} {
		k.program(d, name, argv)
	}
}

// program checks a command that stands under a key, if there is one.
func (k *check) program(d server, key string, argv []string) {
	if len(argv) == 0 || !strings.Contains(argv[0], "/") {
		return
	}
	if err := executable(argv[0]); err != nil {
		k.wrong(d.key+key, "", "%s: the program %s: %s", d.what, argv[0], cause(err))
	}
}

// replica notes how the server of a standby answers, and where none does that is a replica,
// whether one could be made.
func (k *check) replica(ctx context.Context, d server, isReplica func(ctx context.Context, dsn string) (bool, error)) {
	if d.text != "" {
		ctx, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		replica, err := isReplica(ctx, d.text)
		switch {
		case err != nil:
			k.note("%s has no replica that answers: %v", d.what, err)
		case replica:
			return
		default:
			k.note("%s: the server that answers is no replica: stop it and move its data directory away before replctl database seed", d.what)
		}
	}
	if d.DataDir == "" {
		k.note("%s: there is no data_dir, the directory in which replctl database seed makes the replica", d.what)
		return
	}
	entries, err := os.ReadDir(d.DataDir) // what can't be read is seen by the seed
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.note("%s: the data_dir %s is missing: replctl database seed %s makes the replica in it", d.what, d.DataDir, d.Name)
	case err == nil && len(entries) > 0:
		k.note("%s: the data_dir %s is not empty: if what is in it is the replica, start that; else move it away before replctl database seed %s", d.what, d.DataDir, d.Name)
	}
}

// dataDir checks where a replica is made, and whose it is to be.
func (k *check) dataDir(d server) {
	if d.User != "" {
		if _, err := user.Lookup(d.User); err != nil {
			k.wrong(d.key+"user", "user names who runs the replica; install the server first", "%s: there is no user %s", d.what, d.User)
		}
	}
	if d.DataDir == "" {
		return
	}
	if parent, err := os.Stat(filepath.Dir(d.DataDir)); errors.Is(err, fs.ErrNotExist) {
		k.wrong(d.key+"data_dir", "", "%s: %s is missing, want the directory in which data_dir is made", d.what, filepath.Dir(d.DataDir))
	} else if err == nil && !parent.IsDir() {
		k.wrong(d.key+"data_dir", "", "%s: %s is no directory", d.what, filepath.Dir(d.DataDir))
	}
}
