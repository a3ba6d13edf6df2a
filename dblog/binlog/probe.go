package binlog

import (
	"context"
	"database/sql/driver"
)

// Programs are those that a seed needs, on both sides.
var Programs = []string{backupProgram, streamProgram}

// IsReplica asks the server of a connection string, once, whether it is a replica. The
// error says what an operator would have to change, and shows no connection string.
func IsReplica(ctx context.Context, dsn string) (bool, error) {
	config, err := parseDSN(dsn)
	if err != nil {
		return false, err
	}
	l := link{config: config}
	defer l.close()
	var replica bool
	err = l.with(ctx, func(c driver.Conn) error {
		st, err := lookAtReplica(ctx, c)
		replica = len(st.slaves) > 0
		return err
	})
	if err != nil {
		_, text := codeOf(err)
		return false, setupError{text}
	}
	return replica, nil
}
