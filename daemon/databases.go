package daemon

import (
	"context"

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
