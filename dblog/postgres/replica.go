package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"repld/dblog"
	"repld/health"
)

// replicaState is what the replica says of itself.
type replicaState struct {
	recovery           bool
	restoreCommand     string
	replayed, received LSN
	streams            bool   // from whomever
	host, port         string // its walreceiver's primary; empty if we may not see it
}

const replicaSQL = `SELECT pg_is_in_recovery()::text, current_setting('restore_command'),
	coalesce(pg_last_wal_replay_lsn(), '0/0'), coalesce(pg_last_wal_receive_lsn(), '0/0'),
	coalesce(r.pid::text, ''), coalesce(r.sender_host, ''), coalesce(r.sender_port::text, '')
	FROM (SELECT 1) one LEFT JOIN pg_stat_wal_receiver r ON true`

func lookAtReplica(ctx context.Context, c *pgconn.PgConn) (replicaState, error) {
	var st replicaState
	rows, err := query(ctx, c, replicaSQL)
	if err != nil {
		return st, err
	}
	row, err := one(rows, 7)
	if err != nil {
		return st, err
	}
	st = replicaState{recovery: row[0] == "true", restoreCommand: row[1], streams: row[4] != "", host: row[5], port: row[6]}
	var err2 error
	st.replayed, err = ParseLSN(row[2])
	st.received, err2 = ParseLSN(row[3])
	return st, errors.Join(err, err2)
}

// judge says what is wrong with a replica, nil if nothing is.
func (g *Gate) judge(st replicaState) error {
	gate := g.Position()
	host, port := g.opts.SocketDir, strconv.Itoa(g.opts.Port)
	if a, ok := g.Addr().(*net.TCPAddr); ok {
		host, port = a.IP.String(), strconv.Itoa(a.Port)
	}
	switch {
	case !st.recovery:
		return fmt.Errorf("%w: it was promoted and goes its own way", dblog.ErrAhead)
	case st.restoreCommand != "":
		return fmt.Errorf("%w: restore_command is %q, want none", dblog.ErrBypass, st.restoreCommand)
	case st.streams && st.host != "" && (st.host != host || st.port != port):
		return fmt.Errorf("%w: it streams from %s port %s, want %s port %s", dblog.ErrBypass, st.host, st.port, host, port)
	case max(st.replayed, st.received) > LSN(gate.Offset) && !gate.IsZero():
		return fmt.Errorf("%w: it has WAL up to %v, the gate is at %s", dblog.ErrAhead, max(st.replayed, st.received), show(gate))
	}
	return nil
}

// mayPromote says whether the user of the replica's dsn lacks what a promotion takes.
func mayPromote(v *server) error {
	if !v.promotes {
		return setupError{"the user of the replica's dsn may not promote it: GRANT EXECUTE ON FUNCTION pg_promote TO that user, on the primary, in the dsn's database"}
	}
	return nil
}

// promotable says what keeps a replica from being a primary one day.
func promotable(v *server) error {
	if err := mayPromote(v); err != nil {
		return err
	}
	promoted := *v
	promoted.recovery = false
	if err := unsuitable(&promoted); err != nil {
		return setupError{"the replica could be promoted, but not be replicated then: " + err.Error()}
	}
	return nil
}

// Check asks the replica whether it is what it should be. It returns what it found
// wrong, and Health has it.
func (g *Gate) Check(ctx context.Context) error {
	if g.admin == nil {
		return nil
	}
	var lacks, wrong error
	err := g.admin.with(ctx, func(c *pgconn.PgConn, v *server) error {
		// Privileges and settings change while the connection stays.
		now, err := identify(ctx, c)
		if err != nil {
			return err
		}
		*v = now
		st, err := lookAtReplica(ctx, c)
		if err != nil {
			return err
		}
		if wrong = g.judge(st); st.recovery {
			lacks = promotable(v)
		}
		return g.dropLeftSlot(ctx, c, st)
	})
	if err != nil {
		return errors.Join(g.noted(err), wrong)
	}
	// What was found before, and isn't any more, goes; that it was ahead, when it is at the
	// gate again.
	g.resolved(health.DatabaseDown)
	if !errors.Is(wrong, dblog.ErrBypass) {
		g.resolved(health.DatabaseBypass)
	}
	if lacks == nil {
		g.resolved(health.DatabaseSetup)
	}
	return errors.Join(g.noted(wrong), g.noted(lacks))
}

// Watch checks the replica every so often until ctx ends.
func (g *Gate) Watch(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := g.Check(ctx); err != nil && ctx.Err() == nil {
			g.opts.Logger.Warn("the replica was checked", "database", g.opts.Name, "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
