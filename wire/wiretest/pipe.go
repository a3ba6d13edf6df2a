package wiretest

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// pipe is one direction of a relay: packets leave in the order in which they came.
type pipe struct {
	queue chan packet
	quit  chan struct{}
	bytes atomic.Int64

	mu   sync.Mutex
	o    RelayOptions
	rng  *rand.Rand
	free time.Time     // when the link has sent all that waits for it
	held chan struct{} // closed when what is held may leave; nil: nothing is held
}

type packet struct {
	due  time.Time
	size int
	send func()
}

func newPipe(seed, stream uint64) *pipe {
	return &pipe{queue: make(chan packet, 16<<10), quit: make(chan struct{}), rng: rand.New(rand.NewPCG(seed, stream))}
}

func (p *pipe) set(o RelayOptions) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.o = o
}

func (p *pipe) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = make(chan struct{})
	}
}

func (p *pipe) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

// gate returns when packets may leave, or at the end, which it reports.
func (p *pipe) gate() (open bool) {
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held == nil {
		return true
	}
	select {
	case <-held:
		return true
	case <-p.quit:
		return false
	}
}

// put drops what the link loses or has no room for.
func (p *pipe) put(size int, send func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rng.Float64() < p.o.Loss {
		return
	}
	now := time.Now()
	due := now
	if p.o.Bandwidth > 0 {
		if p.free.Before(now) {
			p.free = now
		}
		waiting := int64(p.free.Sub(now).Seconds() * float64(p.o.Bandwidth))
		if waiting+int64(size) > p.o.Queue {
			return
		}
		p.free = p.free.Add(time.Duration(float64(size) / float64(p.o.Bandwidth) * float64(time.Second)))
		due = p.free
	}
	select {
	case p.queue <- packet{due.Add(p.o.Delay), size, send}:
	default:
	}
}

func (p *pipe) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var next packet
		select {
		case next = <-p.queue:
		case <-p.quit:
			return
		}
		if wait := time.Until(next.due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-p.quit:
				return
			}
		}
		if !p.gate() {
			return
		}
		p.bytes.Add(int64(next.size))
		next.send()
	}
}

func (p *pipe) stop() { close(p.quit) }
