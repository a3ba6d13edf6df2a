package postgres

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Down reports whether provably no server listens where a connection string leads: each
// of its addresses refuses, or has no socket. A server that is shutting down still listens.
func Down(ctx context.Context, dsn string) bool {
	config, err := parseDSN(dsn, "repld")
	if err != nil {
		return false
	}
	down := refuses(ctx, config.Host, config.Port)
	for _, f := range config.Fallbacks {
		down = down && refuses(ctx, f.Host, f.Port)
	}
	return down
}

func refuses(ctx context.Context, host string, port uint16) bool {
	var d net.Dialer
	network, address := pgconn.NetworkAddress(host, port)
	conn, err := d.DialContext(ctx, network, address)
	if err == nil {
		conn.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}
