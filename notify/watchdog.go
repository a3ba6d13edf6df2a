package notify

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Run sends a keep-alive twice in the time that the manager allows (WatchdogSec=),
// as long as alive returns nil, until ctx ends. Its result is always nil.
//
// alive must look at what a working daemon keeps moving, and must be quick: while it
// runs no keep-alive is sent. Its context ends with ctx, or when the manager has
// lost patience; its error is logged when it comes, changes and goes. It is not called if the
// manager wants no keep-alives.
func (s *Service) Run(ctx context.Context, alive func(context.Context) error) error {
	if s.watchdog == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(max(s.watchdog/2, time.Millisecond))
	defer tick.Stop()
	for before := ""; ; {
		before = s.check(ctx, alive, before)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// check is one round; before is what the last one found wrong, "" for nothing.
func (s *Service) check(ctx context.Context, alive func(context.Context) error, before string) string {
	limited, cancel := context.WithTimeout(ctx, s.watchdog)
	defer cancel()
	err := alive(limited)
	if ctx.Err() != nil {
		return before
	}
	if err != nil {
		if err.Error() != before {
			s.log.Error("not alive: no keep-alive is sent until this ends, and the service manager restarts the daemon",
				"error", err, "within", s.watchdog)
		}
		return err.Error()
	}
	if before != "" {
		s.log.Info("alive again")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.send(daemon.SdNotifyWatchdog)
	return ""
}
