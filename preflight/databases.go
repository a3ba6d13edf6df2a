package preflight

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"repld/config"
	"repld/dblog/postgres"
)

// answerWithin bounds how long a database may take.
const answerWithin = 5 * time.Second

// socketPath is how long the path of a Unix socket may be (sockaddr_un).
const socketPath = 107

// databases checks the database servers of this node.
func (k *check) databases(ctx context.Context) {
	for _, g := range k.config.Groups {
		for _, d := range g.Databases {
			key := "groups." + g.Name + ".databases." + d.Name + ".postgres."
			what := "the database " + g.Name + "/" + d.Name
			dsn, ok := k.dsn(key, what, d.Postgres)
			if k.config.Designated == config.Primary {
				if ok {
					k.source(ctx, key, what, dsn)
				}
				continue
			}
			k.replica(key, what, d)
			if ok {
				k.standby(ctx, what, dsn)
			}
		}
	}
}

// dsn returns the connection string of a database.
func (k *check) dsn(key, what string, p config.Postgres) (string, bool) {
	if p.DSNFile == "" {
		return p.DSN, true
	}
	text, err := os.ReadFile(p.DSNFile)
	if err != nil {
		k.wrong(key+"dsn_file", k.asUser(), "%s: the file %s: %s", what, p.DSNFile, cause(err))
		return "", false
	}
	st, err := os.Stat(p.DSNFile)
	if err == nil && st.Mode()&0o007 != 0 {
		k.note("%s: %s has mode %04o: everybody may read or change the password in it", what, p.DSNFile, st.Mode().Perm())
	}
	return strings.TrimSpace(string(text)), true
}

// source checks the server that is replicated. Its slot is left as it is.
func (k *check) source(ctx context.Context, key, what, dsn string) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	s, err := postgres.NewSource(postgres.SourceOptions{Name: what, DSN: dsn, Slot: "repld_check", SlotLimit: math.MaxInt64})
	if err != nil {
		k.wrong(key+"dsn", "", "%s: %v", what, err)
		return
	}
	defer s.Close()
	if s.Check(ctx) == nil {
		return
	}
	for _, c := range s.Health() {
		text := strings.TrimPrefix(c.Text, "database ")
		if os.Geteuid() == 0 && strings.Contains(text, "Peer authentication failed") {
			k.note("%s; this is root, and the user of the service may be let in: runuser -u repld -- psql, with the same dsn", text)
			continue
		}
		k.wrong(key+"dsn", "", "%s", text)
	}
}

// replica checks what a replica on this node needs.
func (k *check) replica(key, what string, d config.Database) {
	if _, err := user.Lookup(d.Postgres.User); err != nil {
		k.wrong(key+"user", "user names who runs the replica; install the server first", "%s: there is no user %s", what, d.Postgres.User)
	}
	dir := d.Postgres.SocketDir
	if dir == "" {
		dir = filepath.Join(filepath.Dir(k.config.Control), "gate-"+d.Name)
	}
	if n := len(filepath.Join(dir, ".s.PGSQL.5432")); n > socketPath {
		k.wrong(key+"socket_dir", "", "%s: the path of the gate's socket in %s has %d bytes, want %d at most", what, dir, n, socketPath)
	}
	if d.Postgres.DataDir == "" {
		return
	}
	if parent, err := os.Stat(filepath.Dir(d.Postgres.DataDir)); errors.Is(err, fs.ErrNotExist) {
		k.wrong(key+"data_dir", "", "%s: %s is missing, want the directory in which data_dir is made", what, filepath.Dir(d.Postgres.DataDir))
	} else if err == nil && !parent.IsDir() {
		k.wrong(key+"data_dir", "", "%s: %s is no directory", what, filepath.Dir(d.Postgres.DataDir))
	}
	if len(d.Postgres.Start) > 0 {
		if err := executable(d.Postgres.Start[0]); err != nil {
			k.wrong(key+"start", "", "%s: the program %s: %s", what, d.Postgres.Start[0], cause(err))
		}
	}
}

// standby notes how the server on a standby answers: there need not be one yet.
func (k *check) standby(ctx context.Context, what, dsn string) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	recovery, err := postgres.InRecovery(ctx, dsn)
	switch {
	case err != nil:
		k.note("%s has no replica that answers: %v", what, err)
	case !recovery:
		k.note("%s: the server that answers is no replica: stop it and move its data directory away before replctl database seed", what)
	}
}
