package ship

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
)

// engine is a database whose log is random bytes.
type engine struct {
	t      *testing.T
	name   string
	window *spool.Spool // on the primary
	spool  *spool.Spool // on the standby
	dir    string       // of spool

	mu       sync.Mutex
	rng      *rand.Rand
	base     uint64 // where data begins
	data     []byte
	changed  chan struct{}
	err      error // of Ship, at once
	acked    change.StreamPosition
	replayed change.StreamPosition
	told     map[string][]error // what Failed was called with, by node
}

const overlap = 100

func newEngine(t *testing.T, name string, seed uint64, sink spool.Options) *engine {
	t.Helper()
	e := &engine{t: t, name: name, dir: filepath.Join(t.TempDir(), name), rng: rand.New(rand.NewPCG(seed, 1)), base: 1 << 40,
		changed: make(chan struct{}), told: map[string][]error{}}
	if sink.SegmentSize == 0 {
		sink.SegmentSize = 1 << 20
	}
	var err error
	if e.window, err = spool.Open(t.TempDir(), spool.Options{Volatile: true, Limit: 16 << 20, SegmentSize: 512 << 10}); err != nil {
		t.Fatal(err)
	}
	if e.spool, err = spool.Open(e.dir, sink); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.window.Close(); e.spool.Close() })
	return e
}

// set changes the engine.
func (e *engine) set(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
	close(e.changed)
	e.changed = make(chan struct{})
}

// write adds n bytes to the log and returns where it ends.
func (e *engine) write(n int) (end change.StreamPosition) {
	e.set(func() {
		want := len(e.data) + n
		for len(e.data) < want {
			e.data = binary.LittleEndian.AppendUint64(e.data, e.rng.Uint64())
		}
		e.data = e.data[:want]
		end = e.end()
	})
	return end
}

func (e *engine) end() change.StreamPosition {
	return change.StreamPosition{Chapter: 1, Offset: e.base + uint64(len(e.data))}
}

func (e *engine) source() SpoolSource {
	return SpoolSource{Name: e.name, Spool: e.window, Ship: e.ship, Failed: e.fails("primary"),
		Acknowledge: func(durable, replayed change.StreamPosition) {
			e.set(func() { e.acked, e.replayed = durable, replayed })
		}}
}

func (e *engine) sink() SpoolSink {
	return SpoolSink{Name: e.name, Spool: e.spool, Failed: e.fails("standby")}
}

func (e *engine) fails(node string) func(error) {
	return func(err error) { e.set(func() { e.told[node] = append(e.told[node], err) }) }
}

// lastTold returns how often a node was told something, and what it was told last.
func (e *engine) lastTold(node string) (n int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n = len(e.told[node]); n > 0 {
		err = e.told[node][n-1]
	}
	return n, err
}

func (e *engine) ship(ctx context.Context, from change.StreamPosition) error {
	e.mu.Lock()
	at := max(e.base, from.Offset-min(from.Offset, overlap))
	err, end := e.err, e.end().Offset
	e.mu.Unlock()
	switch {
	case err != nil:
		return err
	case from.Offset > end:
		return fmt.Errorf("%w: the log ends at %d, the standby's at %d", dblog.ErrNeedsSeed, end, from.Offset)
	case !from.IsZero() && from.Offset < e.base:
		return fmt.Errorf("%w: the log begins at %d", dblog.ErrNeedsSeed, e.base)
	}
	if err := e.window.Begin(spool.Chapter{Number: 1, Start: 0, Info: []byte("about " + e.name)}); err != nil {
		return err
	}
	for {
		e.mu.Lock()
		piece := e.data[at-e.base:]
		if len(piece) > 40_000 {
			piece = piece[:1+e.rng.IntN(40_000)]
		}
		changed, err := e.changed, e.err
		e.mu.Unlock()
		if err != nil {
			return err
		}
		if len(piece) == 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
			}
			continue
		}
		if err := e.window.Append(change.StreamPosition{Chapter: 1, Offset: at}, piece); err != nil {
			return err
		}
		at += uint64(len(piece))
		if err := e.window.WaitRoom(ctx); err != nil {
			return err
		}
	}
}

// arrived reports whether the standby has everything for good.
func (e *engine) arrived() bool {
	e.mu.Lock()
	end := e.end()
	e.mu.Unlock()
	return e.spool.Durable() == end
}

// compare holds what is in a spool against the log.
func (e *engine) compare(sp *spool.Spool) {
	e.t.Helper()
	r := sp.NewReader()
	defer r.Close()
	start, end := sp.Start(), sp.End()
	if start.Offset < e.base || end != e.end() {
		e.t.Fatalf("the spool is %v to %v, the log %d to %v", start, end, e.base, e.end())
	}
	for at := start.Offset; at < end.Offset; {
		buf := make([]byte, 64<<10)
		n, err := r.ReadAt(buf, 1, at)
		if err != nil {
			e.t.Fatal(err)
		}
		if want := e.data[at-e.base:][:n]; string(buf[:n]) != string(want) {
			e.t.Fatalf("%d bytes at %d differ", n, at)
		}
		at += uint64(n)
	}
}

// with has a pair ship databases.
func with(engines ...*engine) func(*SenderOptions, *ReceiverOptions) {
	return func(s *SenderOptions, r *ReceiverOptions) {
		for _, e := range engines {
			s.Spools = append(s.Spools, e.source())
			r.Spools = append(r.Spools, e.sink())
		}
	}
}

// cutAt writes a barrier that holds databases' positions.
func (p *pair) cutAt(at ...change.DatabasePosition) change.Barrier {
	p.t.Helper()
	p.seq++
	b := &change.Barrier{Certificate: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: p.seq}, Rung: change.RungOptimistic, Databases: at}}
	if _, err := p.from.Append(b); err != nil {
		p.t.Fatal(err)
	}
	if err := p.from.Sync(); err != nil {
		p.t.Fatal(err)
	}
	p.sender.Notify()
	return *b
}

func (e *engine) at(p change.StreamPosition) change.DatabasePosition {
	return change.DatabasePosition{Name: e.name, Engine: "random", Position: p}
}

// received reports whether a barrier is the received one.
func (p *pair) received(b change.Barrier) bool {
	got, ok := p.receiver.Received()
	return ok && got.ID == b.ID
}

// backup writes n bytes of a generator.
func backup(w io.Writer, seed uint64, n int) error {
	rng := rand.New(rand.NewPCG(seed, 2))
	for n > 0 {
		b := make([]byte, 1+rng.IntN(100_000))
		b = b[:min(len(b), n)]
		for i := 0; i+8 <= len(b); i += 8 {
			binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		n -= len(b)
	}
	return nil
}
