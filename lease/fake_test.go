package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// cluster is a simulated etcd: one key that is bound to a lease, one epoch, and a leader
// that may have been deposed without knowing. Its clock may run faster than the nodes'.
type cluster struct {
	mu     sync.Mutex
	begun  time.Time
	fast   float64 // of its clock to the real one, at least 1
	down   bool
	holder holder
	lease  int64
	made   int64
	ends   time.Duration // of the lease, by its clock
	ttl    time.Duration
	epoch  Epoch
	ids    int64
	// stale is until when a deposed leader still answers renewals, which mean nothing.
	stale time.Duration
	naive bool // it is believed: the terms of its answers are not looked at
}

func (c *cluster) now() time.Duration { return time.Duration(float64(time.Since(c.begun)) * c.fast) }

// expire ends a lease whose time is over; c.mu is held.
func (c *cluster) expire() {
	if c.lease != 0 && c.now() >= c.ends {
		c.lease, c.holder = 0, holder{}
	}
}

// held returns the lease that somebody has, 0 = none.
func (c *cluster) held() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	return c.lease
}

// depose lets a new leader take over, which begins all leases anew, while the old one goes
// on to answer.
func (c *cluster) depose(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	c.ends = max(c.ends, c.now()+c.ttl)
	c.stale = c.now() + d
}

// path is a node's way to the cluster; it implements store.
type path struct {
	c    *cluster
	p    *process
	mu   sync.Mutex
	rng  *rand.Rand
	cut  bool
	lag  time.Duration // the longest that a message takes
	slow bool          // answers take nearly as long as an attempt may
}

func (s *path) set(cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
}

var errCut = errors.New("nobody answers")

// travel is a message on its way; lost ones end with ctx.
func (s *path) travel(ctx context.Context, back bool) error {
	s.mu.Lock()
	cut, d := s.cut, time.Duration(0)
	switch {
	case s.slow && back:
		if end, ok := ctx.Deadline(); ok {
			d = time.Until(end) * 9 / 10
		}
	case s.lag > 0:
		d = time.Duration(s.rng.Int64N(int64(s.lag)))
	}
	s.mu.Unlock()
	if !cut {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
		}
	}
	<-ctx.Done()
	return errCut
}

// ask does something at the cluster: a message there, one back, and perhaps a pause of the
// process before either end.
func (s *path) ask(ctx context.Context, do func(c *cluster) error) error {
	s.p.gate()
	if s.p.isDead() {
		return errCut
	}
	if err := s.travel(ctx, false); err != nil {
		return err
	}
	s.c.mu.Lock()
	err := errCut
	if !s.c.down {
		s.c.expire()
		err = do(s.c)
	}
	s.c.mu.Unlock()
	if err := s.travel(ctx, true); err != nil {
		return err
	}
	s.p.gate()
	return err
}

func (s *path) acquire(ctx context.Context, ttl time.Duration, self holder) (grant, Epoch, error) {
	var g grant
	var epoch Epoch
	err := s.ask(ctx, func(c *cluster) error {
		if c.lease != 0 && c.holder.Node != self.Node {
			return &TakenError{Identity{c.holder.Node, c.holder.Name}}
		}
		c.ids++
		c.holder, c.lease, c.made, c.ttl, c.ends = self, c.ids, c.ids, ttl, c.now()+ttl
		g, epoch = grant{c.lease, c.made}, c.epoch
		return nil
	})
	return g, epoch, err
}

func (s *path) renew(ctx context.Context, g grant) (Epoch, error) {
	var epoch Epoch
	err := s.ask(ctx, func(c *cluster) error {
		if c.now() < c.stale {
			if c.naive {
				epoch = c.epoch
				return nil
			}
			return errUnconfirmed
		}
		if c.lease != g.id {
			return errGone
		}
		c.ends, epoch = c.now()+c.ttl, c.epoch
		return nil
	})
	return epoch, err
}

func (s *path) record(ctx context.Context, g grant, e Epoch) error {
	return s.ask(ctx, func(c *cluster) error {
		switch {
		case c.lease != g.id:
			return errGone
		case !e.mayFollow(c.epoch):
			return &EpochError{Found: c.epoch, Wanted: e}
		}
		c.epoch = e
		return nil
	})
}

func (s *path) bar(ctx context.Context, g grant, self holder) error {
	return s.ask(ctx, func(c *cluster) error {
		if c.lease != g.id {
			return errGone
		}
		c.holder, c.ends = self, c.now()+time.Hour
		return nil
	})
}

func (s *path) revoke(ctx context.Context, g grant) error {
	return s.ask(ctx, func(c *cluster) error {
		if c.lease == g.id {
			c.lease, c.holder = 0, holder{}
		}
		return nil
	})
}

func (s *path) who(ctx context.Context) (Identity, Epoch, error) {
	var i Identity
	var epoch Epoch
	err := s.ask(ctx, func(c *cluster) error {
		if c.lease != 0 {
			i = Identity{c.holder.Node, c.holder.Name}
		}
		epoch = c.epoch
		return nil
	})
	return i, epoch, err
}

func (s *path) close() error { return nil }

// process is one run of a daemon, which can be stopped (SIGSTOP) for a while: then its
// timers fire late, its requests leave late, and answers are read late. It is its clock.
type process struct {
	begun time.Time
	skips bool // its clock stands still meanwhile: that of a machine that is suspended

	mu      sync.Mutex
	dead    bool          // killed: it does nothing any more
	until   time.Time     // stopped until then
	skipped time.Duration // what the clock has not seen
}

func (p *process) stop(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Now().Add(d)
	if p.skips {
		p.skipped += d
	}
}

// gate waits while the process is stopped.
func (p *process) gate() {
	for {
		p.mu.Lock()
		d, dead := time.Until(p.until), p.dead
		p.mu.Unlock()
		if d <= 0 || dead {
			return
		}
		time.Sleep(min(d, time.Second))
	}
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

func (p *process) Mono() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.begun) - p.skipped
}

func (p *process) After(d time.Duration) (<-chan time.Time, func()) {
	c := make(chan time.Time, 1)
	t := time.AfterFunc(d, func() {
		p.gate()
		c <- time.Now()
	})
	return c, func() { t.Stop() }
}
