package binlog

import (
	"context"
	"database/sql/driver"
)

// Programs returns those that a seed needs, on both sides.
func Programs(k Kind) []string {
	d, err := dialectOf(k)
	if err != nil {
		return nil
	}
	return d.programs()
}

// CheckSeed says what would keep a seed from being made, as far as that shows without
// making one; nil if nothing does.
func (s *Source) CheckSeed(ctx context.Context) error {
	return s.work.with(ctx, func(c driver.Conn) error { return s.dialect.seedable(ctx, c, s.opts.CloneDir) })
}

// IsReplica asks the server of a connection string, once, whether it is a replica. The
// error says what an operator would have to change, and shows no connection string.
func IsReplica(ctx context.Context, k Kind, dsn string) (bool, error) {
	d, err := dialectOf(k)
	if err != nil {
		return false, err
	}
	config, err := parseDSN(dsn)
	if err != nil {
		return false, err
	}
	l := link{config: config}
	defer l.close()
	var replica bool
	err = l.with(ctx, func(c driver.Conn) error {
		st, err := d.look(ctx, c)
		replica = len(st.slaves) > 0
		return err
	})
	if err != nil {
		_, text := codeOf(err)
		return false, setupError{text}
	}
	return replica, nil
}
