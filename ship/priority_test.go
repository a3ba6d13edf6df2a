package ship

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestFilesYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPriority()
		if err := p.yield(t.Context(), 1<<30); err != nil {
			t.Fatal(err)
		}
		p.begin()
		passed := make(chan error, 1)
		yield := func(ctx context.Context) { passed <- p.yield(ctx, filePiece) }
		waits := func(want bool) {
			t.Helper()
			synctest.Wait()
			if got := len(passed) == 0; got != want {
				t.Fatalf("files wait: %v, want %v", got, want)
			}
		}
		go yield(t.Context())
		waits(true)
		for range filePiece/spoolPiece*spoolShare - 1 {
			p.wrote(spoolPiece)
		}
		waits(true)
		p.wrote(spoolPiece)
		waits(false) // their share
		<-passed
		go yield(t.Context())
		waits(true)
		<-time.After(spoolStalled)
		waits(false) // the standby has no room for the spool
		<-passed
		p.wrote(1)
		go yield(t.Context())
		waits(true)
		p.end()
		waits(false)
		<-passed
		p.begin()
		ctx, cancel := context.WithCancel(t.Context())
		go yield(ctx)
		waits(true)
		cancel()
		if err := <-passed; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
