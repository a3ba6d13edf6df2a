package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"repld/change"
	"repld/config"
	"repld/control"
	"repld/dblog/postgres"
	"repld/dblog/postgres/postgrestest"
	"repld/health"
	"repld/internal/testfs"
	"repld/lease/timing"
	"repld/role"
)

// realServer is a PostgreSQL server of a node, which the node starts and stops by scripts;
// options are settings.
type realServer struct {
	t    *testing.T
	dir  string // everything of it
	data string
}

func newRealServer(t *testing.T, options ...string) *realServer {
	t.Helper()
	testfs.NeedRoot(t)
	dir := postgrestest.Dir(t)
	s := &realServer{t: t, dir: dir, data: filepath.Join(dir, "data")}
	set := ""
	for _, o := range options {
		set += " -c " + o
	}
	ctl := fmt.Sprintf("exec %s -D %s -l %s/log ", postgrestest.Program(t, "pg_ctl"), s.data, dir)
	s.script("start", ctl+fmt.Sprintf(`-W -o "-k %s -c listen_addresses=%s" start`, dir, set))
	// Once, as long as there is a file "hang": it leaves a process that hangs, too.
	s.script("stop", fmt.Sprintf(`if rm %s/hang 2>/dev/null; then sleep 1000 & echo $! > %s/hung; wait; fi; `, dir, dir)+ctl+"-m fast -w stop")
	end := s.script("end", ctl+"-m immediate -w stop")
	t.Cleanup(func() {
		_ = exec.Command(end).Run() // it may be down
		if log, _ := os.ReadFile(filepath.Join(dir, "log")); t.Failed() {
			t.Logf("--- the end of the log of the server in %s\n%s", dir, log[max(0, len(log)-3000):])
		}
	})
	return s
}

func (s *realServer) script(name, command string) string {
	s.t.Helper()
	uid, gid := postgrestest.IDs(s.t)
	path := filepath.Join(s.dir, name)
	text := fmt.Sprintf("#!/bin/sh\ncd / && exec %s --reuid %d --regid %d --clear-groups sh -c '%s'\n",
		testfs.NeedProgram(s.t, "setpriv", "util-linux"), uid, gid, command)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// create makes an empty database and starts its server.
func (s *realServer) create() {
	s.t.Helper()
	initdb := postgrestest.Command(s.t.Context(), s.t, "initdb", "-D", s.data, "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
	if out, err := initdb.CombinedOutput(); err != nil {
		s.t.Fatalf("initdb: %v\n%s", err, out)
	}
	if out, err := exec.Command(filepath.Join(s.dir, "start")).CombinedOutput(); err != nil {
		s.t.Fatalf("start: %v\n%s", err, out)
	}
	poll(s.t, "the server listens", func() bool { return !s.down() })
}

func (s *realServer) dsn() string {
	return fmt.Sprintf("host=%s user=postgres dbname=postgres connect_timeout=5", s.dir)
}

func (s *realServer) down() bool { return postgres.Down(s.t.Context(), s.dsn()) }

// conf is the database in a node's configuration.
func (s *realServer) conf() config.Database {
	uid, _ := postgrestest.IDs(s.t)
	owner, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		s.t.Fatal(err)
	}
	return config.Database{Name: "main", Engine: change.EnginePostgres,
		Server: config.Server{DSN: s.dsn(), SpoolSize: config.DefaultSpoolSize, DataDir: s.data, User: owner.Username,
			Start: []string{filepath.Join(s.dir, "start")}, Stop: []string{filepath.Join(s.dir, "stop")}},
		Postgres: config.Postgres{SlotLimit: config.DefaultSlotLimit, SocketDir: filepath.Join(s.dir, "gate")}}
}

// holding is a coordinated node's configuration with a database; a loss of the lease is
// noticed after 2.4 s.
func holding(t *testing.T, dir, name, other string, d config.Designation, endpoint string, s *realServer) *config.Config {
	t.Helper()
	c := coordinated(t, dir, name, other, d, endpoint)
	times, err := timing.Of(6*time.Second, 2500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	c.Coordination.Etcd.TTL, c.Coordination.Timing, c.Coordination.DemoteWithin = times.TTL, times, times.Demote
	c.Coordination.DatabasesWithin = 1500 * time.Millisecond
	c.Groups[1].Databases = []config.Database{s.conf()}
	hang := "test ! -e " + filepath.Join(dir, name+".hang") + " || exec sleep 1000"
	c.Hooks.Demote = append(c.Hooks.Demote, config.Hook{Exec: []string{"/bin/sh", "-c", hang}, Timeout: time.Minute, OnError: config.Abort})
	return c
}

// gained is when a node has got the lease, after a moment; zero if it has not.
func (s *service) gained(after time.Time) (at time.Time) {
	s.t.Helper()
	err := s.client.Events(s.t.Context(), control.EventsRequest{}, func(e control.Event) error {
		if e.Type == control.EventLeaseGained && at.IsZero() && e.At.Time.After(after) {
			at = e.At.Time
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return at
}

// TestLostLeaseStopsDatabases cuts a node that serves off from etcd: its database server is
// shut down, though at first the command hangs, and started again with the lease; and
// where the other node takes over it is down before that has the lease, though a demote
// hook hangs.
func TestLostLeaseStopsDatabases(t *testing.T) {
	t.Parallel()
	here, there := newRealServer(t), newRealServer(t)
	here.create()
	e, dir := startEtcd(t), t.TempDir()
	line := layCable(t, e.url)
	standby := launch(t, holding(t, dir, "standby", "primary", config.Secondary, e.url, there), "standby")
	primary := launch(t, holding(t, dir, "primary", "standby", config.Primary, "http://"+line.l.Addr().String(), here), "primary")
	join(t, standby, primary)
	primary.applied("one")
	standby.until("a seed", func() bool {
		_, err := standby.client.SeedDatabase(t.Context(), control.DatabaseRequest{Name: "main"})
		return err == nil
	})
	primary.applied("two")

	// Nobody else takes the lease meanwhile.
	if _, err := standby.client.Maintenance(t.Context(), control.MaintenanceRequest{For: control.Seconds(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(here.dir, "hang"), "")
	if err := os.Chmod(here.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	line.set(true)
	primary.raised(health.HookFailed, "two")
	if here.down() {
		t.Error("the server is down, though what stops it hung")
	}
	pid, err := os.ReadFile(filepath.Join(here.dir, "hung"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err != nil {
		t.Fatal(err)
	}
	poll(t, "all of what hung is killed", func() bool { return gone(n) })
	primary.resolved(health.HookFailed, "two")
	if !here.down() {
		t.Error("the server still listens")
	}
	primary.is(control.StatusDown)
	stop(t, primary)
	primary = launch(t, primary.conf, "primary") // which remembers what it has stopped
	primary.raised(health.Held, "")
	back := time.Now()
	line.set(false)
	primary.is(control.StatusProduction)
	poll(t, "the services run again", func() bool { return !when(t, dir, "primary", "promote", back).IsZero() })
	if here.down() {
		t.Error("services were started without their database")
	}
	primary.applied("two")

	// The other one takes over.
	if _, err := standby.client.Maintenance(t.Context(), control.MaintenanceRequest{End: true}); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "primary.hang"), "")
	var stopped time.Time
	cut := time.Now()
	line.set(true)
	poll(t, "the server is down", func() bool {
		if here.down() && stopped.IsZero() {
			stopped = time.Now()
		}
		return !stopped.IsZero()
	})
	if err := os.Remove(filepath.Join(dir, "primary.hang")); err != nil {
		t.Fatal(err)
	}
	standby.is(control.StatusProductionAlone)
	gained := standby.gained(cut)
	if gained.IsZero() || !stopped.Before(gained) {
		t.Errorf("the server of the node that was cut off was down at %v, the other node had the lease at %v", stopped, gained)
	}
	t.Logf("the server was down after %v, the other node had the lease after %v", stopped.Sub(cut), gained.Sub(cut))
	if there.down() {
		t.Error("the other node serves without its database")
	}
	line.set(false)
	primary.raised(health.Fenced, "")
	primary.until("its services are stopped", func() bool { return !primary.has(health.HookFailed, "") })
	if !here.down() {
		t.Error("the server of a fenced node runs")
	}
	neverBoth(t, dir)
}

// TestStepDownStopsDatabases has a node without coordination step down: its server is shut
// down, and runs again when the node serves.
func TestStepDownStopsDatabases(t *testing.T) {
	t.Parallel()
	dir, server := t.TempDir(), newRealServer(t)
	server.create()
	conf := configure(t, dir, "primary", config.Primary)
	conf.Groups[1].Databases = []config.Database{server.conf()}
	conf.Hooks = hooksThatNote(dir, "primary")
	standby := start(t, dir, "standby", config.Secondary)
	primary := launch(t, conf, "primary")
	join(t, standby, primary)
	primary.applied("one")
	if server.down() {
		t.Fatal("the server is down")
	}
	primary.change(control.RoleRequest{Verb: control.VerbSwitchTo, Target: role.Standby, Mode: role.Emergency})
	primary.is(control.StatusDown)
	if !server.down() {
		t.Error("a node that has stepped down left its server running")
	}
	primary.change(control.RoleRequest{Verb: control.VerbFailover})
	primary.is(control.StatusProduction)
	if server.down() {
		t.Error("the node serves without its database")
	}
}

// gone reports whether a process has ended.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ") // whoever adopted it doesn't wait for it
}
