package preflight

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"repld/config"
	"repld/freeze"
)

// servers are the programs of database servers: in the control group that is
// frozen they could not tell their position.
var servers = []string{"postgres", "mariadbd", "mysqld", "redis-server"}

// freezes checks the control groups that are frozen for barriers. Only a primary does
// that.
func (k *check) freezes() {
	if k.config.Designated != config.Primary {
		return
	}
	for _, g := range k.config.Groups {
		if g.Barrier.Freeze.Cgroup != "" {
			k.freeze(g)
		}
	}
}

func (k *check) freeze(g config.Group) {
	group := g.Barrier.Freeze.Cgroup
	key, what := "groups."+g.Name+".barrier", "the control group "+group
	dir, err := freeze.Find(group)
	switch {
	case errors.Is(err, freeze.ErrOwn):
		k.wrong(key, "name the one of the application alone", "%s can't be frozen for a barrier: %v", what, err)
		return
	case err != nil:
		k.note("%s: %v; until it can be frozen barriers may come late", what, err)
		return
	}
	if err := unix.Access(filepath.Join(dir, "cgroup.freeze"), unix.W_OK); err != nil {
		k.note("%s can't be frozen by this user (%v): see examples/freeze.conf for the service", what, err)
	}
	pids, err := freeze.Pids(dir)
	if err != nil {
		k.note("%s: %v", what, err)
		return
	}
	for pid := range pids {
		name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if err == nil && slices.Contains(servers, strings.TrimSpace(string(name))) && len(g.Databases) > 0 {
			k.wrong(key, "name the one of the application alone", "%s has the database server %s (process %d): it could not tell its position while it is frozen",
				what, strings.TrimSpace(string(name)), pid)
			return
		}
	}
}
