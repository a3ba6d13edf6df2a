package preflight

import (
	"context"
	"os"
	"os/exec"
	"strings"

	"repld/dblog/binlog"
)

// mariadbPrimary checks the server that is replicated.
func (k *check) mariadbPrimary(ctx context.Context, d server) {
	k.backupPrograms(d)
	if d.text == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	s, err := binlog.NewSource(binlog.SourceOptions{Name: d.what, DSN: d.text})
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
		if os.Geteuid() == 0 && strings.Contains(text, "refused the login") && !strings.Contains(text, "using password: YES") {
			k.note("%s; this is root, and the user of the service may be let in: runuser -u repld -- mariadb, with the same socket", text)
			continue
		}
		k.wrong(d.key+"dsn", "", "%s", text)
	}
}

// mariadbStandby checks what a replica needs, and notes how the server answers.
func (k *check) mariadbStandby(ctx context.Context, d server) {
	k.backupPrograms(d)
	if d.text == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	replica, err := binlog.IsReplica(ctx, d.text)
	switch {
	case err != nil:
		k.note("%s has no replica that answers: %v", d.what, err)
	case !replica:
		k.note("%s: the server that answers is no replica: stop it and move its data directory away before replctl database seed", d.what)
	}
}

// backupPrograms notes what a seed needs on either side.
func (k *check) backupPrograms(d server) {
	for _, name := range binlog.Programs {
		if _, err := exec.LookPath(name); err != nil {
			k.note("%s: the program %s is missing, which a seed needs (Debian: mariadb-backup)", d.what, name)
		}
	}
}
