package ship

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/change"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
	"repld/wire"
)

// Capture is what the sender needs of the group's capturing.
type Capture interface {
	// Shippable returns the log offset beyond which nothing may be sent yet: a
	// barrier that the catalog doesn't hold.
	Shippable() uint64
	// Heartbeat returns what is to be said about the newest barrier.
	Heartbeat() wire.Heartbeat
	// Ready waits until the first scan of the trees is complete.
	Ready(ctx context.Context) error
	// Demand has a barrier cut soon even if nothing has changed: a base ends in one.
	Demand()
	// Barrier cuts a barrier that holds everything done before the call.
	Barrier(ctx context.Context) (change.BarrierID, error)
}

// Tree is one tree of the group, for reading chunks by digest.
type Tree struct {
	Name string
	Root *tree.Root
}

// SenderOptions configures a [Sender].
type SenderOptions struct {
	Group   string
	Trees   []Tree
	Log     *journal.Log
	Catalog *catalog.Catalog
	Capture Capture
	// Position returns the log position at which the catalog of a transaction stands.
	Position func(*catalog.Tx) (change.LogPosition, error)
	Logger   *slog.Logger

	// Epoch is the one that this node serves in; sessions with a node that is in another
	// one are refused. Zero: nothing is asked.
	Epoch change.Epoch

	// Spools are the databases whose streams are shipped, at most wire.MaxSpools.
	Spools []SpoolSource

	Streams        int           // parallel log streams; 0 means 4, at most wire.MaxStreams
	HeartbeatEvery time.Duration // without news; 0 means 1 s
	// Pace is asked before so many bytes of data are sent, from several goroutines, and
	// returns when they may be; nil means no limit.
	Pace func(ctx context.Context, bytes int) error
	// OnProgress is called with what the standby reports; nil means no call.
	OnProgress func(wire.Progress)
	// Verify re-reads this node's trees for the peer; nil refuses.
	Verify VerifyFunc
}

// Sender sends a group's log to a standby, one session at a time.
type Sender struct {
	opts SenderOptions
	news chan struct{} // capacity 1: something became shippable, or the state changed

	calls calls

	spools   []*outSpool
	priority *priority // nil without databases

	mu   sync.Mutex
	conn *wire.Conn // of the present session

	chunksSent, bytesSent, bytesBefore atomic.Uint64
}

// NewSender returns a sender.
func NewSender(o SenderOptions) *Sender {
	if o.Streams == 0 {
		o.Streams = 4
	}
	if o.HeartbeatEvery == 0 {
		o.HeartbeatEvery = time.Second
	}
	s := &Sender{opts: o, news: make(chan struct{}, 1)}
	for _, source := range o.Spools {
		s.spools = append(s.spools, &outSpool{SpoolSource: source, failure: failure{tell: source.Failed}})
		s.priority = newPriority()
	}
	return s
}

// Notify tells the sender that there may be something new to send.
func (s *Sender) Notify() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// Fetched returns how many chunks were sent by digest, their bytes as sent and
// before compression.
func (s *Sender) Fetched() (chunks, sent, before uint64) {
	return s.chunksSent.Load(), s.bytesSent.Load(), s.bytesBefore.Load()
}

// Serve runs a session over conn until it ends, and says why it did.
func (s *Sender) Serve(ctx context.Context, conn *wire.Conn) error {
	if err := sameEpoch(s.opts.Epoch, conn); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	// Streams know no context: those that wait for the peer end with the connection.
	defer context.AfterFunc(ctx, func() { hangUp(ctx, conn) })()
	session := &sending{Sender: s, conn: conn, starts: make(chan change.LogPosition, 1)}
	defer s.calls.hangUp()
	s.setConn(conn)
	defer s.setConn(nil)
	for _, q := range s.spools {
		spool := &spooling{outSpool: q, s: session, requests: make(chan spoolRequest, 4)}
		session.spooling = append(session.spooling, spool)
		g.Go(func() error { return spool.run(ctx) })
	}
	g.Go(func() error { return session.receive(ctx, g) })
	g.Go(func() error { return session.accept(ctx, g) })
	g.Go(func() error { return session.sendLog(ctx) })
	g.Go(func() error { return session.sendHeartbeats(ctx) })
	return g.Wait()
}

func (s *Sender) setConn(conn *wire.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
}

// yield waits until so many bytes of files may be sent, after those of databases.
func (s *Sender) yield(ctx context.Context, bytes int) error {
	if s.priority != nil {
		if err := s.priority.yield(ctx, bytes); err != nil {
			return err
		}
	}
	return s.pace(ctx, bytes)
}

// pace waits until so many bytes may be sent.
func (s *Sender) pace(ctx context.Context, bytes int) error {
	if s.opts.Pace == nil {
		return nil
	}
	return s.opts.Pace(ctx, bytes)
}

// sending is one session of a sender.
type sending struct {
	*Sender
	conn   *wire.Conn
	starts chan change.LogPosition // where the log is to be sent from
	once   sync.Once

	spooling []*spooling
	named    bool // the standby has said which databases it holds; used by receive only
}

// receive handles the control stream.
func (s *sending) receive(ctx context.Context, g *errgroup.Group) error {
	for {
		msg, err := s.conn.Receive(ctx)
		if err != nil {
			return err
		}
		switch m := msg.(type) {
		case *wire.Resume:
			if err := s.resume(ctx, m); err != nil {
				return err
			}
		case *wire.SpoolResume:
			if err := s.startSpool(ctx, m.Spool); err != nil {
				return err
			}
		case *wire.Progress:
			if err := s.progress(m); err != nil {
				return err
			}
		case *wire.BarrierRequest:
			g.Go(func() error { return s.answerBarrier(ctx, m) })
		case *wire.VerifyRequest:
			g.Go(func() error { return answerVerify(ctx, s.conn, s.opts.Verify, m) })
		case *wire.VerifyReport:
			s.calls.deliver(m.Call, m)
		default:
			return fmt.Errorf("the standby sent %v, which only a primary sends", msg.Type())
		}
	}
}

// resume says where the log goes on, or that the standby needs a base.
func (s *sending) resume(ctx context.Context, m *wire.Resume) error {
	if err := s.startSpools(ctx, m.Spools); err != nil {
		return err
	}
	reply := &wire.ResumeReply{Group: s.opts.Group, Action: wire.ResumeBase}
	at, ok, err := s.shared(m)
	if err != nil {
		return err
	}
	if ok {
		reply.Action, reply.Position = wire.ResumeStream, at
	}
	s.opts.Logger.Info("session resumes", "group", s.opts.Group, "action", reply.Action.String(), "offset", reply.Position.Offset)
	if err := s.conn.Send(ctx, reply); err != nil {
		return err
	}
	if ok {
		s.begin(at)
	}
	return nil
}

// shared returns the last position that both logs hold.
func (s *sending) shared(m *wire.Resume) (change.LogPosition, bool, error) {
	if !m.HasBase {
		return change.LogPosition{}, false, nil
	}
	offset, ok := s.opts.Log.Common(m.Position)
	if !ok {
		return change.LogPosition{}, false, nil
	}
	at, err := s.opts.Log.PositionAt(offset)
	if errors.Is(err, journal.ErrFailed) || errors.Is(err, journal.ErrClosed) {
		return change.LogPosition{}, false, err
	}
	if err != nil {
		// Not between two records, or damaged here: no later session finds it otherwise.
		s.opts.Logger.Warn("the log can't go on where the standby's ends: it gets a base", "group", s.opts.Group, "offset", offset, "error", err)
		return change.LogPosition{}, false, nil
	}
	if offset == m.Position.Offset && at.Chain != m.Position.Chain {
		return change.LogPosition{}, false, nil
	}
	return at, true, nil
}

// begin lets the log flow. It happens once a session.
func (s *sending) begin(at change.LogPosition) {
	s.once.Do(func() { s.starts <- at })
}

// progress frees what the standby has applied. Of a standby that speaks of barriers
// of another log, as one does until its base has come if this node's state was lost,
// nothing is taken for applied.
func (s *sending) progress(m *wire.Progress) error {
	if err := s.acknowledge(m); err != nil {
		return err
	}
	applied, ok, err := s.applied(m)
	if err != nil {
		return err
	}
	if !ok {
		m.Received, m.Lacks = change.BarrierID{}, change.BarrierID{}
		m.Applied, m.AppliedOffset, m.AppliedDigest = change.BarrierID{}, 0, change.Digest{}
	}
	if s.opts.OnProgress != nil {
		s.opts.OnProgress(*m)
	}
	// Never by what the standby says alone: what the catalog doesn't hold yet is
	// needed to go on after a crash.
	if applied == 0 {
		return nil
	}
	return s.opts.Log.Free(applied)
}

// applied returns the log offset behind the barrier that the standby has applied, 0
// if nothing is known of it any more. ok is false if it is none of this log's.
func (s *sending) applied(m *wire.Progress) (offset uint64, ok bool, err error) {
	if m.Applied.IsZero() {
		return 0, true, nil
	}
	err = s.opts.Catalog.View(func(tx *catalog.Tx) error {
		b, found, err := tx.Barrier(m.Applied)
		if err != nil {
			return err
		}
		if found {
			offset, ok = b.End.Offset, b.End.Offset == m.AppliedOffset && b.Tree == m.AppliedDigest
			return nil
		}
		// Only the newest barriers are kept.
		ok = m.AppliedOffset <= s.opts.Log.Durable().Offset && m.Applied.Compare(oldestBarrier(tx)) < 0
		return nil
	})
	if !ok {
		offset = 0
	}
	return offset, ok, err
}

// oldestBarrier is the oldest barrier that the catalog holds, zero if it has none.
func oldestBarrier(tx *catalog.Tx) (id change.BarrierID) {
	for b := range tx.Barriers() {
		id = b.ID
	}
	return id
}

func (s *sending) answerBarrier(ctx context.Context, m *wire.BarrierRequest) error {
	reply := &wire.BarrierReply{Call: m.Call}
	id, err := s.opts.Capture.Barrier(ctx)
	if err != nil {
		reply.Error = refusal(err)
	} else {
		reply.Barrier = id
	}
	return s.conn.Send(ctx, reply)
}

// accept serves the streams that the standby opens.
func (s *sending) accept(ctx context.Context, g *errgroup.Group) error {
	for {
		header, stream, err := s.conn.AcceptStream(ctx)
		if err != nil {
			return err
		}
		g.Go(func() error {
			defer stream.Cancel()
			var err error
			switch h := header.(type) {
			case *wire.FetchStream:
				err = s.serveChunks(ctx, stream)
			case *wire.ManifestStream:
				err = s.serveManifest(ctx, stream)
			case *wire.SeedStream:
				s.serveSeed(ctx, stream, h)
			default:
				err = fmt.Errorf("the standby opened a stream for %v", header.Type())
			}
			if err != nil && ctx.Err() == nil && !errors.Is(err, wire.ErrCanceled) {
				return err
			}
			return nil
		})
	}
}

// sendHeartbeats tells of news at once, and of none from time to time.
func (s *sending) sendHeartbeats(ctx context.Context) error {
	ticker := time.NewTicker(s.opts.HeartbeatEvery / 4)
	defer ticker.Stop()
	var last wire.Heartbeat
	var quiet int
	for {
		beat := s.opts.Capture.Heartbeat()
		quiet++
		if quiet >= 4 || beat.Captured != last.Captured || (beat.PendingFiles > 0) != (last.PendingFiles > 0) {
			if err := s.conn.Send(ctx, &beat); err != nil {
				return err
			}
			last, quiet = beat, 0
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
