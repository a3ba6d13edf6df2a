package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/journal"
	"repld/wire"
)

// Applier is what the receiver needs of the group's applying.
type Applier interface {
	// Base returns the log position from which the applier goes on, false if it
	// needs a seed.
	Base() (change.LogPosition, bool)
	// Applied returns the log offset behind the newest barrier that is applied, 0 if
	// none is. What lies between it and Base was replayed, but isn't in the trees yet.
	Applied() uint64
	// Seed imports a base and puts the log at the manifest's position. It returns
	// when the log may be appended to, or with the error that broke it; it can be
	// called again with a newer manifest then.
	Seed(ctx context.Context, m *Manifest) error
	// Notify says that a barrier is durable in the log, or that a session has begun.
	Notify()
	// Progress returns what is to be reported to the primary, but for Durable.
	// Received is a barrier that the applier has without the log, if any; Lacks is of
	// the trees alone.
	Progress() wire.Progress
}

// ReceiverOptions configures a [Receiver].
type ReceiverOptions struct {
	Group   string
	Log     *journal.Log
	Applier Applier
	Fetcher *Fetcher // gets the session's connection
	Clock   change.Clock
	Logger  *slog.Logger

	// Epoch is the one in which this node stands by; sessions with a node that is in
	// another one are refused. Zero: nothing is asked.
	Epoch change.Epoch

	// Spools are the databases whose streams are kept, at most wire.MaxSpools.
	Spools []SpoolSink

	// JournalLimit bounds the log's bytes on disk, as far as applying can free
	// any; 0 means 8 GiB.
	JournalLimit int64
	// Short reports that the disk has no space to spare: nothing is taken meanwhile. nil
	// means that it always has.
	Short         func() bool
	ProgressEvery time.Duration // without news; 0 means 1 s
	// OnHeartbeat is called with what the primary says; nil means no call.
	OnHeartbeat func(wire.Heartbeat)
	// Verify re-reads this node's trees for the peer; nil refuses.
	Verify VerifyFunc
}

// Receiver receives a group's log, one session at a time.
type Receiver struct {
	opts  ReceiverOptions
	limit atomic.Int64  // of the log, in bytes
	news  chan struct{} // capacity 1: Progress changed

	mu       sync.Mutex
	received change.Barrier   // newest that is durable
	seeing   uint64           // the log was looked through for barriers up to here
	agreed   bool             // the log is known to be the primary's
	damaged  bool             // the primary's log can't be taken: only a base helps
	waiting  []change.Barrier // durable in the log, newer than received: some spool isn't there yet

	spools  []*inSpool
	flushed chan struct{} // capacity 1: a spool may hold what a barrier waits for

	calls calls
}

// NewReceiver returns a receiver.
func NewReceiver(o ReceiverOptions) *Receiver {
	if o.JournalLimit == 0 {
		o.JournalLimit = 8 << 30
	}
	if o.ProgressEvery == 0 {
		o.ProgressEvery = time.Second
	}
	if o.Short == nil {
		o.Short = func() bool { return false }
	}
	r := &Receiver{opts: o, news: make(chan struct{}, 1), flushed: make(chan struct{}, 1)}
	for _, sink := range o.Spools {
		r.spools = append(r.spools, newInSpool(sink))
	}
	r.limit.Store(o.JournalLimit)
	return r
}

// SetJournalLimit replaces [ReceiverOptions.JournalLimit].
func (r *Receiver) SetJournalLimit(bytes int64) { r.limit.Store(bytes) }

// Notify says that there is something new to report: a barrier was applied.
func (r *Receiver) Notify() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// Received returns the newest barrier that is durable in the log, false if none
// came since the start.
func (r *Receiver) Received() (change.Barrier, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.received, !r.received.ID.IsZero()
}

// Agreed reports whether what this node has comes from the log that the primary
// writes. Before the primary has said so in a session, and while a base is on its
// way, barriers of this node must not be compared with those of the primary: one
// whose state was lost counts from 1 again.
func (r *Receiver) Agreed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.agreed
}

// Serve runs a session over conn until it ends, and says why it did.
func (r *Receiver) Serve(ctx context.Context, conn *wire.Conn) error {
	if err := sameEpoch(r.opts.Epoch, conn); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	defer r.calls.hangUp()
	// Streams know no context: those that wait for the peer end with the connection.
	defer context.AfterFunc(ctx, func() { hangUp(ctx, conn) })()
	session := &receiving{Receiver: r, conn: conn, ready: make(chan struct{}), arrived: make(chan struct{}, 1)}
	hasBase := r.begin() && session.continues()
	session.hasBase = hasBase
	r.opts.Fetcher.attach(conn)
	defer r.opts.Fetcher.detach(conn)
	g.Go(func() error { return session.receive(ctx, g) })
	g.Go(func() error { return session.accept(ctx, g) })
	g.Go(func() error { return session.sync(ctx) })
	g.Go(func() error { return session.report(ctx) })
	for _, q := range r.spools {
		g.Go(func() error { return session.flushSpool(ctx, q) })
	}
	g.Go(func() error {
		if err := r.trust(hasBase); err != nil {
			return err
		}
		return session.resume(ctx)
	})
	return g.Wait()
}

// begin notes that a session begins, and reports whether one may go on with the log.
func (r *Receiver) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.agreed = false
	return !r.damaged
}

// receiving is one session of a receiver.
type receiving struct {
	*Receiver
	conn    *wire.Conn
	ready   chan struct{} // closed once the log may be appended to
	arrived chan struct{} // capacity 1: the log grew
	order   order

	incarnation change.IncarnationID // of the newest block; whose turn it is has it

	// What the reply is held against; used by receive only, once resume was called.
	hasBase  bool
	answered bool
	named    bool // the primary was told where the spools end
}

// resume says what this node has, or that it needs a base.
func (s *receiving) resume(ctx context.Context) error {
	var ends []wire.SpoolEnd
	if !s.named { // a second Resume is about the log only
		s.named = true
		for _, q := range s.spools {
			ends = append(ends, q.request())
		}
	}
	return s.conn.Send(ctx, &wire.Resume{
		Group: s.opts.Group, Position: s.opts.Log.End(), Applied: s.opts.Applier.Progress().Applied, HasBase: s.hasBase,
		Spools: ends,
	})
}

// continues reports whether the log goes on where the applier stands.
func (s *receiving) continues() bool {
	at, ok := s.opts.Applier.Base()
	if !ok || at.Offset < s.opts.Log.Start() || at.Offset > s.opts.Log.End().Offset {
		return false
	}
	here, err := s.opts.Log.PositionAt(at.Offset)
	return err == nil && here.Chain == at.Chain
}

// receive handles the control stream.
func (s *receiving) receive(ctx context.Context, g *errgroup.Group) error {
	for {
		msg, err := s.conn.Receive(ctx)
		if err != nil {
			return err
		}
		switch m := msg.(type) {
		case *wire.ResumeReply:
			if err := s.resumed(ctx, g, m); err != nil {
				return err
			}
		case *wire.Heartbeat:
			if s.opts.OnHeartbeat != nil {
				s.opts.OnHeartbeat(*m)
			}
		case *wire.BarrierReply:
			s.calls.deliver(m.Call, m)
		case *wire.VerifyRequest:
			g.Go(func() error { return answerVerify(ctx, s.conn, s.opts.Verify, m) })
		case *wire.VerifyReport:
			s.calls.deliver(m.Call, m)
		default:
			return fmt.Errorf("the primary sent %v, which only a standby sends", msg.Type())
		}
	}
}

// resumed goes on as the primary said.
func (s *receiving) resumed(ctx context.Context, g *errgroup.Group, m *wire.ResumeReply) error {
	if s.answered {
		return errors.New("the primary answered twice where the log goes on")
	}
	s.answered = true
	if m.Action == wire.ResumeBase {
		g.Go(func() error { return s.seed(ctx) })
		return nil
	}
	if !s.hasBase {
		return errors.New("the primary goes on with its log, but this node needs a base first")
	}
	at, ok := s.opts.Applier.Base()
	here, err := s.opts.Log.PositionAt(m.Position.Offset)
	if !ok || err != nil || here.Chain != m.Position.Chain || m.Position.Offset < at.Offset {
		// Both histories are the same up to a place that was applied over already.
		s.opts.Logger.Warn("the logs have parted before what was applied: a base is needed", "group", s.opts.Group, "offset", m.Position.Offset)
		s.hasBase, s.answered = false, false
		return s.resume(ctx)
	}
	if err := s.opts.Log.TruncateTo(m.Position.Offset); err != nil {
		return err
	}
	s.distrust(m.Position.Offset)
	return s.open(m.Position.Offset)
}

// open lets the log be appended to from offset on.
func (s *receiving) open(offset uint64) error {
	s.mu.Lock()
	// What was received before may have been cut off, or be of another history.
	s.received, s.waiting = change.Barrier{}, nil
	s.agreed = true
	s.seeing = s.unapplied()
	s.mu.Unlock()
	s.order.start(offset)
	close(s.ready)
	s.wake()
	s.opts.Applier.Notify() // what it lacked may be had now
	return nil
}

// unapplied returns the log offset behind what was applied: the barriers from there on
// are received ones. Not Base, which may be beyond a barrier that still lacks data.
func (r *Receiver) unapplied() uint64 {
	return max(r.opts.Log.Start(), r.opts.Applier.Applied())
}

// seed takes a base; the log goes on behind it.
func (s *receiving) seed(ctx context.Context) error {
	m, err := openManifest(ctx, s.conn, s.opts.Group)
	if err != nil {
		return err
	}
	defer m.close()
	s.distrust(0)
	if err := s.opts.Applier.Seed(ctx, m); err != nil {
		return err
	}
	s.mu.Lock()
	s.damaged = false
	s.mu.Unlock()
	return s.open(m.Position.Offset)
}

// accept takes the log streams that the primary opens.
func (s *receiving) accept(ctx context.Context, g *errgroup.Group) error {
	for {
		header, stream, err := s.conn.AcceptStream(ctx)
		if err != nil {
			return err
		}
		g.Go(func() error {
			defer stream.Cancel()
			if m, ok := header.(*wire.SpoolStream); ok {
				s.receiveSpool(ctx, stream, m)
				return nil
			}
			if _, ok := header.(*wire.LogStream); !ok {
				return fmt.Errorf("the primary opened a stream for %v", header.Type())
			}
			select {
			case <-s.ready:
			case <-ctx.Done():
				return ctx.Err()
			}
			return s.receiveBlocks(ctx, stream)
		})
	}
}

// receiveBlocks appends the blocks of one stream, each when its turn has come.
func (s *receiving) receiveBlocks(ctx context.Context, stream *wire.Stream) error {
	var incarnation change.IncarnationID
	buf := make([]byte, wire.MaxBlock)
	for {
		msg, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch m := msg.(type) {
		case *wire.Incarnation:
			incarnation = m.Incarnation
		case *wire.Block:
			block := buf[:m.Length]
			if _, err := io.ReadFull(stream, block); err != nil {
				return fmt.Errorf("receive a block of the log: %w", err)
			}
			if err := s.append(ctx, m.Offset, block, incarnation); err != nil {
				return err
			}
		default:
			return fmt.Errorf("the primary sent %v on a log stream", msg.Type())
		}
	}
}

// append adds a block when everything before it is there.
func (s *receiving) append(ctx context.Context, offset uint64, block []byte, incarnation change.IncarnationID) error {
	if err := s.order.wait(ctx, offset); err != nil {
		return err
	}
	if err := s.room(ctx); err != nil {
		return err
	}
	// Not by the log's end, which is of the former one until the first record of
	// this one is whole.
	if s.incarnation != incarnation {
		if err := s.opts.Log.SetIncarnation(incarnation); err != nil {
			return err
		}
		s.incarnation = incarnation
	}
	err := s.opts.Log.AppendRaw(offset, block)
	if errors.Is(err, change.ErrMalformed) {
		// It would be the same in every session: the primary's log has rotted.
		s.mu.Lock()
		s.damaged = true
		s.mu.Unlock()
		return fmt.Errorf("the primary's log can't be taken, so that a base is needed: %w", err)
	}
	if err != nil {
		return err
	}
	s.order.start(offset + uint64(len(block)))
	s.wake()
	return nil
}

// room waits while the disk is short of space, and while the log is at its limit and
// applying can free some of it.
func (s *receiving) room(ctx context.Context) error {
	for s.opts.Short() || s.full() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// full reports whether the log is at its limit, and not for want of what follows.
func (s *receiving) full() bool {
	if s.opts.Log.Bytes() < s.limit.Load() {
		return false
	}
	return s.applying() || s.spoolsLack()
}

// applying reports whether a barrier was received that isn't applied and can be.
func (r *Receiver) applying() bool {
	received, ok := r.Received()
	p := r.opts.Applier.Progress()
	return ok && received.ID.Compare(p.Applied) > 0 && received.ID.Compare(p.Lacks) > 0
}

func (s *receiving) wake() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// order makes blocks of several streams follow each other. It must be started
// before it is waited for.
type order struct {
	mu   sync.Mutex
	next uint64
	turn chan struct{} // closed when next changes
}

// start makes offset the next one.
func (o *order) start(offset uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next = offset
	if o.turn != nil {
		close(o.turn)
		o.turn = nil
	}
}

// wait returns when offset is the next one.
func (o *order) wait(ctx context.Context, offset uint64) error {
	for {
		o.mu.Lock()
		next := o.next
		if o.turn == nil {
			o.turn = make(chan struct{})
		}
		turn := o.turn
		o.mu.Unlock()
		switch {
		case next == offset:
			return nil
		case next > offset:
			return fmt.Errorf("the primary sent the log at %d again; %d is next", offset, next)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-turn:
		}
	}
}
