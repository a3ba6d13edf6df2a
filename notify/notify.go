package notify

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Options configure a [Service].
type Options struct {
	Logger *slog.Logger // what couldn't be delivered, and failed checks; nil = discard
}

// Service is this process as the service manager sees it.
type Service struct {
	log *slog.Logger
	// watchdog is how long the manager waits for a keep-alive; 0 = it doesn't.
	watchdog time.Duration

	mu     sync.Mutex
	status string // the last text that was sent
	failed bool   // the last message could not be delivered
}

// New reads the environment, which must not change from then on.
func New(o Options) *Service {
	s := &Service{log: o.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.watchdog, err = daemon.SdWatchdogEnabled(false); err != nil {
		s.log.Warn("no keep-alives are sent: WATCHDOG_USEC or WATCHDOG_PID is wrong", "error", err)
	}
	return s
}

// Ready says that start, or a reload, is over and what the daemon does now.
func (s *Service) Ready(status string) { s.say(daemon.SdNotifyReady, status) }

// Status says what the daemon does now, in one line for `systemctl status`. A text
// that was said already is not sent again.
func (s *Service) Status(status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status = oneLine(status); status != s.status {
		s.status = status
		s.send("STATUS=" + status)
	}
}

// Reloading says that the configuration is being read again. [Service.Ready] must
// follow, also if it was refused and the old one stays.
func (s *Service) Reloading() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.send(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping says that the daemon has begun to stop.
func (s *Service) Stopping(status string) { s.say(daemon.SdNotifyStopping, status) }

func (s *Service) say(state, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = oneLine(status)
	s.send(state + "\nSTATUS=" + s.status)
}

// send delivers one message; s.mu is held, so that messages keep their order.
func (s *Service) send(message string) {
	_, err := daemon.SdNotify(false, message)
	if err != nil {
		level := slog.LevelWarn
		if s.failed {
			level = slog.LevelDebug
		}
		first, _, _ := strings.Cut(message, "\n")
		s.log.Log(context.Background(), level, "the service manager can't be told", "message", first, "error", err)
	}
	s.failed = err != nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
