package hook

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
)

// Hook is one thing to do. Exactly one of the kinds is set.
type Hook struct {
	Exec    []string // absolute path of a program, and its arguments
	Systemd *Systemd
	HTTP    *HTTP
	Address *Address
	DNS     *DNS

	Timeout time.Duration // of one attempt; 0 = 30 s
	Retry   int           // further attempts after a failure
	Pause   time.Duration // before each of them; 0 = 1 s
	OnError OnError       // "" = Abort
}

// OnError says what a failure means for the hooks after it.
type OnError string

// The words of the configuration.
const (
	Abort OnError = "abort"
	GoOn  OnError = "go-on"
)

// Facts are what hooks are told.
type Facts struct {
	Node, Peer string // names
	List       string // promote, demote, fence or check
	Role       string // what this node is becoming
	Status     string
	Epoch      uint64
	Barriers   []string // "GROUP=ID"
}

// Result is what came of one hook.
type Result struct {
	Hook     string // as Hook.String
	Attempts int
	Took     time.Duration
	Output   string // of the last attempt, its end
	Err      error  // nil: it succeeded
	Ignored  bool   // it failed, and the list went on
}

// Text is a sentence about r.
func (r Result) Text() string {
	switch {
	case r.Err == nil:
		return fmt.Sprintf("hook %s: done in %v", r.Hook, r.Took.Round(time.Millisecond))
	case r.Ignored:
		return fmt.Sprintf("hook %s failed after %s, and on_error is go-on: %v", r.Hook, english.Plural(r.Attempts, "attempt", ""), r.Err)
	}
	return fmt.Sprintf("hook %s failed after %s: %v", r.Hook, english.Plural(r.Attempts, "attempt", ""), r.Err)
}

// String names a hook in one line, without what may be secret.
func (h *Hook) String() string {
	switch {
	case len(h.Exec) > 0:
		return "exec " + strings.Join(h.Exec, " ")
	case h.Systemd != nil:
		return "systemd " + h.Systemd.String()
	case h.HTTP != nil:
		return "http " + h.HTTP.String()
	case h.Address != nil:
		return "address " + h.Address.String()
	case h.DNS != nil:
		return "dns " + h.DNS.String()
	}
	return "nothing"
}

// Options are the settings of a [Runner].
type Options struct {
	// Systemd connects to systemd's manager; nil = that of the system.
	Systemd func(ctx context.Context) (Manager, error)
	// Report is called after each hook, by the goroutine that runs it; nil = nobody wants
	// to know.
	Report func(Facts, Result)
}

// Runner runs hooks.
type Runner struct{ o Options }

// New returns a runner.
func New(o Options) *Runner {
	if o.Systemd == nil {
		o.Systemd = systemManager
	}
	if o.Report == nil {
		o.Report = func(Facts, Result) {}
	}
	return &Runner{o}
}

// ErrFailed is wrapped by the error of a list that a failure has ended.
var ErrFailed = errors.New("a hook failed")

// Run runs a list in its order. The error is nil unless a hook with Abort failed or ctx
// ended; the results are those of the hooks that ran.
func (r *Runner) Run(ctx context.Context, list []Hook, f Facts) ([]Result, error) {
	var results []Result
	for i := range list {
		result := r.one(ctx, &list[i], f)
		result.Ignored = result.Err != nil && list[i].OnError == GoOn && ctx.Err() == nil
		results = append(results, result)
		r.o.Report(f, result)
		if result.Err != nil && !result.Ignored {
			return results, fmt.Errorf("%w: %s: %w", ErrFailed, result.Hook, result.Err)
		}
	}
	return results, ctx.Err()
}

// Fence runs a list of fence hooks. It has succeeded only if a hook whose failure would
// have ended it did: what may fail proves nothing.
func (r *Runner) Fence(ctx context.Context, list []Hook, f Facts) ([]Result, error) {
	results, err := r.Run(ctx, list, f)
	if err != nil {
		return results, err
	}
	for i := range list {
		if list[i].OnError != GoOn {
			return results, nil
		}
	}
	return results, fmt.Errorf("%w: there is no fence hook with on_error abort, so nothing proves that the peer is down", ErrFailed)
}

func (r *Runner) one(ctx context.Context, h *Hook, f Facts) Result {
	start := time.Now()
	result := Result{Hook: h.String()}
	for {
		result.Attempts++
		result.Output, result.Err = r.attempt(ctx, h, f)
		result.Took = time.Since(start)
		if result.Err == nil || result.Attempts > h.Retry || !wait(ctx, orDefault(h.Pause, time.Second)) {
			return result
		}
	}
}

func (r *Runner) attempt(ctx context.Context, h *Hook, f Facts) (output string, err error) {
	limit := orDefault(h.Timeout, 30*time.Second)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	switch {
	case len(h.Exec) > 0:
		output, err = run(ctx, h.Exec, f)
	case h.Systemd != nil:
		err = r.systemd(ctx, h.Systemd)
	case h.HTTP != nil:
		output, err = h.HTTP.request(ctx)
	case h.Address != nil:
		err = h.Address.apply(ctx)
	case h.DNS != nil:
		err = h.DNS.update(ctx)
	default:
		err = errors.New("it says nothing to do")
	}
	if err != nil && len(h.Exec) == 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("it did not end within %v: %w", limit, err)
	}
	return output, err
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// wait returns false if ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
