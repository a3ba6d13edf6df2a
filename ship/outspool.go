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

// refused notes that the standby takes no more of what answers a call. What it had
// acknowledged of that comes on another stream, maybe later, and says nothing any more.
func (q *outSpool) refused(call uint64, e *SpoolError) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.call == call {
		q.call = 0
	}
	q.failure.set(e)
}

// acknowledge passes on what the standby has, once both speak of the same history:
// the database may forget it then.
func (q *outSpool) acknowledge(m *wire.SpoolProgress) error {
	q.mu.Lock()
	sent := q.sent
	if m.Call == 0 || m.Call != q.call {
		q.mu.Unlock()
		return nil
	}
	q.failure.set(nil)
	q.mu.Unlock()
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
