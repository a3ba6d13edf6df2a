package preflight

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"

	"repld/dblog/postgres"
)

// postgresPrimary checks the server that is replicated. Its slot is left as it is.
func (k *check) postgresPrimary(ctx context.Context, d server) {
	if d.text == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	s, err := postgres.NewSource(postgres.SourceOptions{Name: d.what, DSN: d.text, Slot: "repld_check", SlotLimit: math.MaxInt64})
	if err != nil {
		k.wrong(d.key+"dsn", "", "%s: %v", d.what, err)
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
		k.wrong(d.key+"dsn", "", "%s", text)
	}
}

// postgresStandby checks what a replica needs, and notes how the server answers.
func (k *check) postgresStandby(ctx context.Context, d server) {
	dir := d.Postgres.SocketDir
	if dir == "" {
		dir = filepath.Join(filepath.Dir(k.config.Control), "gate-"+d.Name)
	}
	if n := len(filepath.Join(dir, ".s.PGSQL.5432")); n > socketPath {
		k.wrong(d.key+"socket_dir", "", "%s: the path of the gate's socket in %s has %d bytes, want %d at most", d.what, dir, n, socketPath)
	}
	k.replica(ctx, d, postgres.InRecovery)
}
