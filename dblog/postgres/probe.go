package postgres

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"
)

// InRecovery asks the server of a connection string, once, whether it is a replica. The
// error says what an operator would have to change, and shows no connection string.
func InRecovery(ctx context.Context, dsn string) (bool, error) {
	config, err := parseDSN(dsn, "repld")
	if err != nil {
		return false, setupError{err.Error()}
	}
	l := link{config: config}
	defer l.close()
	var recovery bool
	err = l.with(ctx, func(_ *pgconn.PgConn, s *server) error {
		recovery = s.recovery
		return nil
	})
	if err != nil {
		_, text := codeOf(err)
		return false, setupError{text}
	}
	return recovery, nil
}
