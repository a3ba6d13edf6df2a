// Command repld keeps a warm standby of a live directory tree.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"repld/cmd/internal/repld"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends a stop that takes too long
	return int(repld.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
