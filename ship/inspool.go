package ship

import (
	"errors"
	"sync"

	"repld/change"
	"repld/dblog/spool"
	"repld/wire"
)

// inSpool is a database on the standby.
type inSpool struct {
	SpoolSink
	failure failure

	// writing is held while a part of the stream is appended, and by whoever
	// replaces the spool.
	writing sync.Mutex

	mu       sync.Mutex
	spool    *spool.Spool // in place of SpoolSink.Spool, which may have been replaced
	replaced chan struct{}
	call     uint64       // of the newest request
	agreed   bool         // a part of the stream was taken since: it goes on from what is here
	stream   *wire.Stream // of that request
	trusted  trusted
	seeding  bool
	anew     bool // a seed has emptied the spool
}

func newInSpool(sink SpoolSink) *inSpool {
	return &inSpool{
		SpoolSink: sink, failure: failure{tell: sink.Failed, told: sink.Parted}, spool: sink.Spool, replaced: make(chan struct{}),
		agreed: !sink.Parted,
	}
}

// request asks for the stream from where the spool ends; streams of earlier requests
// are taken no more.
func (q *inSpool) request() wire.SpoolEnd {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop()
	return wire.SpoolEnd{Database: q.Name, Call: q.call, End: q.spool.End()}
}

// drop has streams of earlier requests taken no more; with q.mu held.
func (q *inSpool) drop() {
	q.call++
	q.agreed = false
	if q.stream != nil {
		q.stream.Cancel()
		q.stream = nil
	}
}

// take returns the spool for the stream of a request, nil if that isn't the newest.
func (q *inSpool) take(call uint64, stream *wire.Stream) *spool.Spool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if call != q.call || q.stream != nil {
		return nil
	}
	q.stream = stream
	return q.spool
}

// current returns the spool, and what is closed when it is replaced.
func (q *inSpool) current() (*spool.Spool, <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.spool, q.replaced
}

// is reports whether a stream is still the one that is taken.
func (q *inSpool) is(stream *wire.Stream) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stream == stream
}

// agree notes that the stream goes on from what is here.
func (q *inSpool) agree() (first bool) {
	q.mu.Lock()
	first, q.agreed = !q.agreed, true
	q.mu.Unlock()
	q.failure.set(nil)
	return first
}

// fail ends the stream for a reason of this node's.
func (q *inSpool) fail(err error) {
	e := spoolError(q.Name, err)
	q.mu.Lock()
	stream := q.stream
	if needsSeed(e.Err) {
		q.agreed = false
	}
	q.mu.Unlock()
	q.failure.set(e)
	if stream != nil {
		_ = stream.Refuse(refusalFor(e))
	}
}

// holds is as the function of that name, for a barrier's position. Where the stream may
// have parted the spool doesn't count, but for barriers that are trusted.
func (q *inSpool) holds(at change.StreamPosition, id change.BarrierID) (ok, hopeless bool) {
	q.mu.Lock()
	sp, counts := q.spool, q.agreed || id.Compare(q.trusted.id) <= 0
	q.mu.Unlock()
	if !counts {
		return false, false
	}
	return holds(sp, at)
}

func (q *inSpool) progress() wire.SpoolProgress {
	q.mu.Lock()
	p := wire.SpoolProgress{Database: q.Name, Durable: q.spool.Durable()}
	if q.agreed {
		p.Call = q.call
	}
	q.mu.Unlock()
	if q.Replayed != nil {
		if at, ok := q.Replayed(); ok {
			p.Replayed = at
		}
	}
	return p
}

// append adds a block, if it still is to be taken.
func (q *inSpool) append(sp *spool.Spool, stream *wire.Stream, block []byte) error {
	q.writing.Lock()
	defer q.writing.Unlock()
	if !q.is(stream) {
		return errors.New("another stream is taken")
	}
	empty := sp.End().IsZero()
	if err := sp.AppendRaw(block); err != nil || !empty || sp.End().IsZero() {
		return err
	}
	return q.follows(sp)
}

// follows asks whether the replica can go on with what has come into an empty spool; with
// q.writing held. Nothing of that counts yet.
func (q *inSpool) follows(sp *spool.Spool) error {
	q.mu.Lock()
	anew := q.anew
	q.mu.Unlock()
	if anew || q.Follows == nil {
		return nil
	}
	if err := q.Follows(); err != nil {
		return errors.Join(err, sp.Reset())
	}
	return nil
}
