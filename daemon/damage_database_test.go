package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"repld/change"
	"repld/config"
	"repld/control"
	"repld/durable"
	"repld/health"
)

// TestStateOfDatabasesDamaged: what a node keeps of its databases is set aside where it is
// damaged, and the group goes on: a spool and a gate's state of the standby, and the stream
// of positions of the primary.
func TestStateOfDatabasesDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "commands")
	write(t, script, "#!/bin/sh\nset -eu\ncd \"$1\"\ncase $REPLD_ACTION in\nposition) cat position ;;\n*) echo \"$REPLD_ACTION $REPLD_POSITION\" >> calls ;;\nesac\n")
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := func(name string, designated config.Designation) *config.Config {
		c := configure(t, dir, name, designated)
		argv := []string{script, filepath.Join(dir, string(designated))}
		c.Groups[1].Databases = []config.Database{{Name: "search", Engine: change.EngineExec, Server: config.Server{SpoolSize: config.DefaultSpoolSize},
			Exec: config.Exec{Position: argv, Hold: argv, Advance: argv, Promote: argv}}}
		return c
	}
	at := func(position string) {
		t.Helper()
		write(t, filepath.Join(dir, "primary", "position"), position+"\n")
		write(t, filepath.Join(dir, "primary", "c", "f"), position)
	}
	standing, serving := conf("standby", config.Secondary), conf("primary", config.Primary)
	at("one")
	standby := launch(t, standing, "standby")
	primary := launch(t, serving, "primary")
	pairUp(t, standby, primary)
	goesOn := func(position string) {
		t.Helper()
		at(position)
		primary.applied("two")
		holds(t, filepath.Join(dir, "secondary", "c", "f"), position)
		standby.until("the service at "+position, func() bool {
			list, err := standby.client.Databases(t.Context(), control.DatabaseRequest{Group: "two"})
			return err == nil && len(list.Databases) == 1 && list.Databases[0].Replayed == position
		})
	}
	goesOn("two")

	state := func(s *service, path ...string) string {
		return filepath.Join(append([]string{s.conf.State, "groups"}, path...)...)
	}
	var aside []string
	damage := func(path string, edit func(b []byte) []byte) {
		t.Helper()
		files, err := filepath.Glob(path)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: nothing is there, %v", path, err)
		}
		b, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		write(t, files[0], string(edit(b)))
		if strings.HasSuffix(path, "*.spool") {
			path = filepath.Dir(path)
		}
		aside = append(aside, path+durable.Damaged)
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 4; return b }
	}
	cut := func(b []byte) []byte { return b[:len(b)/2] }
	told := func(s *service, group string) {
		t.Helper()
		for _, path := range aside {
			if _, err := os.Stat(path); err != nil {
				t.Errorf("it was not set aside: %v", err)
			}
		}
		s.raised(health.StateDamaged, group)
		if s.has(health.GroupFailed, group) {
			t.Errorf("%s: group %s has failed", s.conf.Node, group)
		}
		for _, path := range aside {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
		s.resolved(health.StateDamaged, group)
		aside = nil
	}
	if err := standby.end(); err != nil {
		t.Fatal(err)
	}
	damage(state(standby, "two", "spools", "search", "*.spool"), flip(8))
	damage(state(standby, "two", "gates", "search", "gate.json"), cut)
	// Servers that aren't there, whose gates have a file each, of a group that isn't the primary's.
	server := config.Server{SpoolSize: config.DefaultSpoolSize, User: "root"}
	server.DSN = "host=" + dir + " user=repld dbname=postgres"
	postgres := config.Database{Name: "pg", Engine: change.EnginePostgres, Server: server}
	server.DSN = "repld@unix(" + filepath.Join(dir, "none") + ")/"
	mariadb := config.Database{Name: "my", Engine: change.EngineMariaDB, Server: server}
	server.DSN = "unix://" + filepath.Join(dir, "none")
	redis := config.Database{Name: "kv", Engine: change.EngineRedis, Server: server}
	standby.conf.Groups[0].Databases = []config.Database{postgres, mariadb, redis}
	standby = again(t, standby)
	goesOn("three")
	told(standby, "two")

	if err := standby.end(); err != nil {
		t.Fatal(err)
	}
	damage(state(standby, "one", "gates", "pg", "gate"), flip(0))
	damage(state(standby, "one", "gates", "my", "gate"), func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("floor"), []byte("fLoor")) // in both states
	})
	damage(state(standby, "one", "gates", "kv", "gate"), cut)
	standby = again(t, standby)
	standby.until("the databases", func() bool {
		list, err := standby.client.Databases(t.Context(), control.DatabaseRequest{Group: "one"})
		return err == nil && len(list.Databases) == 3
	})
	told(standby, "one")

	if err := primary.end(); err != nil {
		t.Fatal(err)
	}
	damage(state(primary, "two", "servers", "search", "stream", "*.spool"), flip(8))
	primary = again(t, primary)
	goesOn("four")
	told(primary, "two")
}
