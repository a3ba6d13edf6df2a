// Command replctl asks and steers a running repld.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"repld/cmd/internal/replctl"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return int(replctl.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
