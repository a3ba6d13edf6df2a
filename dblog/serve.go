package dblog

import (
	"context"
	"net"

	"golang.org/x/sync/errgroup"
)

// Serve accepts connections, as a gate does from its replica, and serves each on a
// goroutine of its own until ctx ends or the listener fails; then it closes the
// listener, waits for all that is served, whose context has ended, and returns why. What
// comes in that moment is closed, and waits for no answer. beside runs as long, and ends
// it with its error.
func Serve(ctx context.Context, l net.Listener, serve func(context.Context, net.Conn), beside ...func(context.Context) error) error {
	defer l.Close() // before the caller opens it anew: what closed later would take a socket away
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for _, run := range beside {
		group.Go(func() error { return run(ctx) })
	}
	group.Go(func() error {
		for {
			conn, err := l.Accept()
			if ended := ctx.Err(); ended != nil { // asked once: it may end in between
				if err == nil {
					conn.Close()
				}
				return ended
			}
			if err != nil {
				return err
			}
			group.Go(func() error {
				serve(ctx, conn)
				return nil
			})
		}
	})
	return group.Wait()
}
