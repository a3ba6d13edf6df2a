package redis

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// Down reports whether provably no server listens at a DSN: the address refuses, or has no
// socket.
func Down(ctx context.Context, dsn string) bool {
	at, err := parse(dsn)
	if err != nil {
		return false
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, at.network, at.at)
	if err == nil {
		conn.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}
