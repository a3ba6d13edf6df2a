package daemon

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"repld/change"
	"repld/config"
)

// bandwidth holds what a group sends to its limit, which may depend on the time of
// day. It is safe for concurrent use.
type bandwidth struct {
	clock   change.Clock
	limiter *rate.Limiter

	mu    sync.Mutex
	conf  config.Bandwidth
	judge time.Duration // monotonic, when the time of day is looked at again
}

// Windows begin and end within judgeEvery of their time. leastBurst is the smallest
// number of bytes that is let go at once: a small packet for each few bytes would
// waste more than it spreads.
const (
	judgeEvery = time.Second
	leastBurst = 16 << 10
)

func newBandwidth(clock change.Clock, conf config.Bandwidth) *bandwidth {
	b := &bandwidth{clock: clock, conf: conf, limiter: rate.NewLimiter(rate.Inf, leastBurst)}
	b.apply()
	return b
}

// set makes conf the limits.
func (b *bandwidth) set(conf config.Bandwidth) {
	b.mu.Lock()
	b.conf = conf
	b.mu.Unlock()
	b.apply()
}

// apply gives the limiter the limit of the present time of day.
func (b *bandwidth) apply() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.judge = b.clock.Mono() + judgeEvery
	limit := b.conf.At(b.clock.Now().Local())
	if limit == 0 {
		b.limiter.SetLimit(rate.Inf)
		return
	}
	if b.limiter.Limit() != rate.Limit(limit) {
		b.limiter.SetLimit(rate.Limit(limit))
		b.limiter.SetBurst(max(leastBurst, int(limit)/20))
	}
}

// wait returns when n bytes may be sent.
func (b *bandwidth) wait(ctx context.Context, n int) error {
	for n > 0 {
		b.mu.Lock()
		due := b.clock.Mono() >= b.judge
		b.mu.Unlock()
		if due {
			b.apply()
		}
		part := min(n, b.limiter.Burst())
		if err := b.limiter.WaitN(ctx, part); err != nil {
			return err
		}
		n -= part
	}
	return nil
}
