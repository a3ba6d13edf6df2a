package watch

import (
	"context"
	"sync"
	"time"

	"repld/health"
)

// poller knows nothing of events: it declares everything dirty at intervals.
type poller struct {
	options Options
	ready   chan struct{}
	closed  chan struct{}
	once    sync.Once

	mu    sync.Mutex
	asked bool
	last  time.Duration // monotonic, of the last drain that said so
}

func newPoll(o Options) *poller {
	return &poller{options: o, ready: make(chan struct{}, 1), closed: make(chan struct{})}
}

func (p *poller) Run(ctx context.Context) error {
	tick := time.NewTicker(p.options.PollInterval)
	defer tick.Stop()
	for {
		select {
		case p.ready <- struct{}{}:
		default:
		}
		select {
		case <-tick.C:
		case <-p.closed:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *poller) Drain(ctx context.Context, set *Set) (Sync, error) {
	if err := ctx.Err(); err != nil {
		return Sync{}, err
	}
	select {
	case <-p.closed:
		return Sync{}, ErrClosed
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	sync := Sync{At: p.options.Clock.Mono(), Wall: p.options.Clock.Now()}
	if !p.asked || sync.At-p.last >= p.options.PollInterval {
		p.asked, p.last = true, sync.At
		for i := range p.options.Trees {
			set.Add(Key{Tree: i}, Subtree, sync.At)
		}
	}
	return sync, nil
}

func (p *poller) Ready() <-chan struct{}         { return p.ready }
func (p *poller) Backend() string                { return string(Poll) }
func (p *poller) Conditions() []health.Condition { return nil }

func (p *poller) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}
