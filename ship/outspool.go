package ship

import (
	"sync"

	"repld/change"
	"repld/wire"
)

// outSpool is a database on the primary.
type outSpool struct {
	SpoolSource
	failure failure

	mu   sync.Mutex
	call uint64                // of the request that is answered, 0: none
	sent change.StreamPosition // the standby may have it up to here
}

// failure remembers what a callback was told.
type failure struct {
	mu   sync.Mutex
	told bool
	tell func(error)
}

// set tells e, or that all is well again, which is told only after an error.
func (f *failure) set(e *SpoolError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tell == nil || e == nil && !f.told {
		return
	}
	if f.told = e != nil; f.told {
		f.tell(e)
	} else {
		f.tell(nil)
	}
}

// begin notes which request is answered.
func (q *outSpool) begin(m wire.SpoolEnd) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.call, q.sent = m.Call, m.End
}

// sentTo notes how far the stream was sent.
func (q *outSpool) sentTo(at change.StreamPosition) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sent.Before(at) {
		q.sent = at
	}
}

// acknowledge passes on what the standby has, once both speak of the same history:
// the database may forget it then.
func (q *outSpool) acknowledge(m *wire.SpoolProgress) error {
	q.mu.Lock()
	call, sent := q.call, q.sent
	q.mu.Unlock()
	if m.Call == 0 || m.Call != call {
		return nil
	}
	q.failure.set(nil)
	durable, replayed := m.Durable, m.Replayed
	if sent.Before(durable) {
		durable = sent
	}
	if durable.Before(replayed) {
		replayed = durable
	}
	if q.Acknowledge != nil {
		q.Acknowledge(durable, replayed)
	}
	return q.Spool.Free(durable)
}
