package ship

import (
	"context"
	"errors"
	"sync"

	"repld/wire"
)

// ErrNoSession is returned by calls to the peer while there is no session, or
// when it ends before the answer.
var ErrNoSession = errors.New("the peer can't be reached")

// calls matches answers with the requests of one session. The zero value is ready
// for use.
type calls struct {
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]*call
}

// call is a request that waits for answers.
type call struct {
	number  uint64
	answers chan wire.Message
	done    chan struct{} // closed when nobody waits any more, or the session ended
	once    sync.Once
}

func (c *call) end() { c.once.Do(func() { close(c.done) }) }

// open registers a call. It must be closed.
func (c *calls) open() *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	opened := &call{number: c.last, answers: make(chan wire.Message), done: make(chan struct{})}
	if c.waiting == nil {
		c.waiting = map[uint64]*call{}
	}
	c.waiting[c.last] = opened
	return opened
}

func (c *calls) close(opened *call) {
	opened.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, opened.number)
}

// deliver hands an answer to whoever waits for it; others are dropped.
func (c *calls) deliver(number uint64, m wire.Message) {
	c.mu.Lock()
	waiting := c.waiting[number]
	c.mu.Unlock()
	if waiting == nil {
		return
	}
	select {
	case waiting.answers <- m:
	case <-waiting.done:
	}
}

// hangUp ends all calls.
func (c *calls) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, waiting := range c.waiting {
		waiting.end()
	}
	c.waiting = nil
}

// await returns the next answer of a call.
func (c *call) await(ctx context.Context) (wire.Message, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.done:
		return nil, ErrNoSession
	case m := <-c.answers:
		return m, nil
	}
}

// refusal carries err to the peer.
func refusal(err error) *wire.Refusal {
	if err == nil {
		return nil
	}
	return wire.RefusalOf(err)
}

// hangUp closes the connection of a session that has ended, with the reason unless
// that is a mere stop.
func hangUp(ctx context.Context, conn *wire.Conn) {
	reason := context.Cause(ctx)
	if errors.Is(reason, context.Canceled) {
		reason = nil
	}
	conn.Close(reason)
}
