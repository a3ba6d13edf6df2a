package exec

import (
	"context"
	"errors"
	"fmt"
	osexec "os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"repld/dblog"
	"repld/health"
	"repld/program"
)

// Commands are what a service is held by; see the package's doc.
type Commands struct {
	Position, Hold, Advance, Promote []string
	Rejoin, Health                   []string // nil: none
	// Timeout bounds each command but position and health. 0 means DefaultTimeout.
	Timeout time.Duration
}

// Times of commands.
const (
	DefaultTimeout = 5 * time.Minute
	healthTimeout  = 10 * time.Second
	// positionTimeout holds where the caller sets no shorter one.
	positionTimeout = 5 * time.Second
)

// Actions, as the commands are told.
const (
	actPosition = "position"
	actHold     = "hold"
	actAdvance  = "advance"
	actPromote  = "promote"
	actRejoin   = "rejoin"
	actHealth   = "health"
)

// hopeless is the exit code of a command that an operator must help.
const hopeless = 3

// service runs the commands of one database, and knows which of them have failed.
type service struct {
	commands        Commands
	group, database string

	mu     sync.Mutex
	failed map[string]error // by action, of the last attempt
}

func newService(c Commands, group, database string) (*service, error) {
	for action, argv := range map[string][]string{actPosition: c.Position, actHold: c.Hold, actAdvance: c.Advance, actPromote: c.Promote} {
		if len(argv) == 0 {
			return nil, fmt.Errorf("the command %s is missing", action)
		}
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	return &service{commands: c, group: group, database: database, failed: map[string]error{}}, nil
}

func (s *service) command(action string) (argv []string, timeout time.Duration) {
	c := &s.commands
	switch action {
	case actPosition:
		return c.Position, positionTimeout
	case actHold:
		return c.Hold, c.Timeout
	case actAdvance:
		return c.Advance, c.Timeout
	case actPromote:
		return c.Promote, c.Timeout
	case actRejoin:
		return c.Rejoin, c.Timeout
	case actHealth:
		return c.Health, healthTimeout
	}
	return nil, 0
}

// run runs a command and returns what it has printed. Its error is kept for [service.health],
// unless the caller's context has ended.
func (s *service) run(ctx context.Context, action, position string) (printed string, err error) {
	argv, timeout := s.command(action)
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var out limited
	_, err = program.Run(within, program.Options{
		Args: argv, Input: []byte(position + "\n"), Stdout: &out, DropCapabilities: true,
		Env: []string{"REPLD_ACTION=" + action, "REPLD_GROUP=" + s.group, "REPLD_DATABASE=" + s.database, "REPLD_POSITION=" + position},
	})
	var exit *osexec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == hopeless:
		err = fmt.Errorf("%s of database %s: %w: %w", action, s.database, dblog.ErrNeedsSeed, err)
	case err != nil:
		err = fmt.Errorf("%s of database %s: %w", action, s.database, err)
	}
	if err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		s.note(action, err)
	}
	return string(out.b), err
}

// note keeps how an action went.
func (s *service) note(action string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.failed, action)
	} else {
		s.failed[action] = err
	}
}

// health returns what is wrong, one condition of each code.
func (s *service) health() []health.Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	texts := map[health.Code][]string{}
	for action, err := range s.failed {
		code := health.DatabaseDown
		if errors.Is(err, dblog.ErrNeedsSeed) && action != actPosition && action != actHealth {
			code = health.DatabaseNeedsSeed
		}
		texts[code] = append(texts[code], strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	var list []health.Condition
	for code, found := range texts {
		slices.Sort(found)
		c := health.Condition{Code: code, Text: strings.Join(found, "; "), Hint: "run the command by hand: replctl status and the log have its output"}
		if code == health.DatabaseNeedsSeed {
			c.Hint = "the command says that it can't help itself (exit code 3): bring the service where it can go on; it is tried again"
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b health.Condition) int { return strings.Compare(string(a.Code), string(b.Code)) })
	return list
}

// watch runs the command health every so often until ctx ends.
func (s *service) watch(ctx context.Context, every time.Duration) error {
	if len(s.commands.Health) == 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		_, _ = s.run(ctx, actHealth, "") // noted
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
