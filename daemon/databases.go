package daemon

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"repld/control"
	"repld/role"
)

// errSends answers for a node that doesn't take a stream just now.
var errSends = control.Errorf(control.ExitRefused, "this node does not stand by; gates are on the standby").
	WithState(string(control.RoleDown)).WithHint("replctl status tells what this node is")

// Databases lists the databases of a standby; see [control.Backend].
func (n *node) Databases(ctx context.Context, req control.DatabaseRequest) (*control.DatabaseList, error) {
	if n.roles.now().Role() == role.Production {
		return nil, control.Errorf(control.ExitRefused, "this node is production; gates are on the standby").
			WithState(string(control.RoleProduction)).WithHint("run the command on the standby")
	}
	list := &control.DatabaseList{Databases: []control.Database{}}
	found := req.Name == ""
	err := n.each(ctx, req.Group, func(s side) error {
		r, ok := s.(*receiving)
		if !ok {
			return errSends
		}
		for _, d := range r.databases() {
			if req.Name == "" || d.Name == req.Name {
				list.Databases = append(list.Databases, d)
				found = true
			}
		}
		return nil
	})
	if err == nil && !found {
		err = control.Errorf(control.ExitUsage, "no database %q on this node", req.Name)
	}
	return list, err
}

// SeedDatabase makes a replica from nothing; see [control.Backend].
func (n *node) SeedDatabase(ctx context.Context, req control.DatabaseRequest) (reply *control.DatabaseSeedReply, err error) {
	list, err := n.Databases(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(list.Databases) != 1 {
		return nil, control.Errorf(control.ExitUsage, "%d databases are called %q: say which one with --group", len(list.Databases), req.Name)
	}
	err = n.with(ctx, list.Databases[0].Group, func(ctx context.Context, s side) error {
		r, ok := s.(*receiving)
		if !ok {
			return errSends
		}
		reply, err = r.seedDatabase(ctx, req.Name)
		return err
	})
	return reply, err
}

// settingsWithin bounds how long a server is asked for its settings.
const settingsWithin = 5 * time.Second

// serverSettings asks this node's database servers for what should be the same on both
// nodes, by "GROUP/DATABASE", and why some could not be asked.
func (n *node) serverSettings(ctx context.Context, further []string) (found map[string]map[string]string, silent map[string]error) {
	var mu sync.Mutex
	found, silent = map[string]map[string]string{}, map[string]error{}
	ctx, cancel := context.WithTimeout(ctx, settingsWithin)
	defer cancel()
	var asking sync.WaitGroup
	for _, g := range n.groups {
		for _, c := range g.conf.Databases {
			ask := engines[c.Engine].settings
			if ask == nil {
				continue
			}
			asking.Go(func() {
				var settings map[string]string
				text, err := dsn(c)
				if err == nil {
					settings, err = ask(ctx, text, further)
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					silent["database "+g.name+"/"+c.Name] = err
					return
				}
				found[g.name+"/"+c.Name] = settings
			})
		}
	}
	asking.Wait()
	for _, name := range further {
		known := len(found) == 0
		for _, settings := range found {
			for k := range settings {
				known = known || strings.EqualFold(k, name)
			}
		}
		if !known {
			silent["setting "+name] = errors.New("no database server has a setting of this name")
		}
	}
	return found, silent
}
