package ship

import (
	"context"
	"sync"
	"time"
)

// While a spool has unsent bytes, files get one byte for every spoolShare of its, so
// that they never starve.
const spoolShare = 8

// spoolPiece and filePiece are how much is written at a time while databases have
// priority: what was written can't be overtaken any more.
const (
	spoolPiece = 64 << 10
	filePiece  = 128 << 10
)

// spoolStalled is how long a spool's write may take until files go on regardless: the
// standby has no room for it then, and may get some only by a barrier, which is files.
const spoolStalled = 2 * time.Second

// maxCredit bounds what files may send at once after they have waited.
const maxCredit = 1 << 20

// priority has files wait while spools have something to send.
type priority struct {
	mu      sync.Mutex
	busy    int       // spools that have unsent bytes
	credit  int       // bytes that files may send all the same
	moved   time.Time // when a spool's bytes were written last
	changed chan struct{}
}

func newPriority() *priority { return &priority{changed: make(chan struct{})} }

func (p *priority) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// begin says that a spool has something to send.
func (p *priority) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy++; p.busy == 1 {
		p.moved, p.credit = time.Now(), 0
	}
}

// end says that it has sent everything.
func (p *priority) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	p.announce()
}

// wrote says that a spool's bytes were written.
func (p *priority) wrote(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved = time.Now()
	p.credit = min(maxCredit, p.credit+(n+spoolShare-1)/spoolShare)
	p.announce()
}

// yield returns when so many bytes of files may be sent.
func (p *priority) yield(ctx context.Context, n int) error {
	n = min(n, maxCredit)
	for {
		p.mu.Lock()
		left := spoolStalled - time.Since(p.moved)
		if p.busy == 0 || left <= 0 || p.credit >= n {
			p.credit = max(0, p.credit-n)
			p.mu.Unlock()
			return nil
		}
		changed := p.changed
		p.mu.Unlock()
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}
