package preflight

import (
	"context"
	"os"
	"os/exec"
	"strings"

	"repld/dblog/binlog"
)

// binlogPrimary checks the server that is replicated.
func (k *check) binlogPrimary(ctx context.Context, d server) {
	k.backupPrograms(d)
	if d.text == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	s, err := binlog.NewSource(binlog.SourceOptions{Kind: binlog.Kind(d.Engine), Name: d.what, CloneDir: d.MySQL.CloneDir, DSN: d.text})
	if err != nil {
		k.wrong(d.key+"dsn", "", "%s: %v", d.what, err)
		return
	}
	defer s.Close()
	if s.Check(ctx) == nil {
		if err := s.CheckSeed(ctx); err != nil {
			k.note("%s: replctl database seed needs more: %v", d.what, err)
		}
		return
	}
	for _, c := range s.Health() {
		text := strings.TrimPrefix(c.Text, "database ")
		if os.Geteuid() == 0 && strings.Contains(text, "refused the login") && !strings.Contains(text, "using password: YES") {
			k.note("%s; this is root, and the user of the service may be let in: runuser -u repld -- %s, with the same socket", text, d.Engine)
			continue
		}
		k.wrong(d.key+"dsn", "", "%s", text)
	}
}

// binlogStandby checks what a replica needs, and notes how the server answers.
func (k *check) binlogStandby(ctx context.Context, d server) {
	k.backupPrograms(d)
	k.replica(ctx, d, func(ctx context.Context, dsn string) (bool, error) {
		return binlog.IsReplica(ctx, binlog.Kind(d.Engine), dsn)
	})
}

// backupPrograms notes what a seed needs on either side.
func (k *check) backupPrograms(d server) {
	for _, name := range binlog.Programs(binlog.Kind(d.Engine)) {
		if _, err := exec.LookPath(name); err != nil {
			k.note("%s: the program %s is missing, which a seed needs (Debian: mariadb-backup)", d.what, name)
		}
	}
}
