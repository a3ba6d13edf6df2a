package binlog

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// Down reports whether provably no server listens where a connection string leads: the
// address refuses, or has no socket.
func Down(ctx context.Context, dsn string) bool {
	config, err := parseDSN(dsn)
	if err != nil {
		return false
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, config.Net, config.Addr)
	if err == nil {
		conn.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}
