package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"repld/change"
	"repld/control"
	"repld/health"
	"repld/journal"
	"repld/journal/catalog"
	"repld/role"
	"repld/wire"
)

// member is what both sides of a group have while it works.
type member struct {
	*group
	seed    seedClock
	log     *journal.Log
	catalog *catalog.Catalog

	mu      sync.Mutex
	conn    *wire.Conn    // nil without a session
	broken  chan error    // capacity 1: why all must be opened anew
	carried uint64        // by connections that have ended, bytes in this node's direction
	changed chan struct{} // closed when anything that callers wait for changes
}

// openMember opens the group's log and catalog. The caller closes it.
func openMember(g *group) (*member, error) {
	m := &member{group: g, changed: make(chan struct{}), broken: make(chan error, 1)}
	var err error
	if m.catalog, err = catalog.Open(g.file(catalogName), catalog.Options{}); err != nil {
		return nil, err
	}
	if m.log, err = journal.Open(filepath.Join(g.dir, "log"), journal.Options{}); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *member) close() {
	if m.log != nil {
		if err := m.log.Close(); err != nil {
			m.logger.Error("close the log", "group", m.name, "error", err)
		}
	}
	if err := m.catalog.Close(); err != nil {
		m.logger.Error("close the catalog", "group", m.name, "error", err)
	}
}

// judge ends the side after a session or a verification that ended with err, if a new one would
// end the same way: a log that could not be written takes nothing more until it is
// opened anew, and what is damaged must be set aside.
func (m *member) judge(err error) {
	if !isDamage(err) && !errors.Is(err, journal.ErrFailed) {
		return
	}
	select {
	case m.broken <- err:
	default:
	}
}

// awaitBroken waits for what judge finds.
func (m *member) awaitBroken(ctx context.Context) error {
	select {
	case err := <-m.broken:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// signal wakes everybody who waits for progress.
func (m *member) signal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.changed)
	m.changed = make(chan struct{})
}

// waitFor returns when done says so, asked at every signal and once a second: what the
// pair and its roles do isn't signalled here.
func (m *member) waitFor(ctx context.Context, done func() (bool, error)) error {
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		m.mu.Lock()
		changed := m.changed
		m.mu.Unlock()
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-again.C:
		}
	}
}

// dialSessions opens one session after the other, on the node that dials; the other
// one's come by serve.
func (m *member) dialSessions(ctx context.Context, s side) error {
	if !m.primary() {
		<-ctx.Done()
		return ctx.Err()
	}
	return m.redial(ctx, func(ctx context.Context) error {
		if err := m.matched(ctx); err != nil {
			return err
		}
		conn, err := m.dial(ctx, m.name)
		if err != nil {
			return err
		}
		if err := m.opposite(conn.PeerHello()); err != nil {
			conn.Close(err)
			return err
		}
		return s.session(ctx, conn)
	}, m.judgeSession)
}

// matched waits until the pair is connected and the peer does the opposite of this node,
// in the same epoch.
func (m *member) matched(ctx context.Context) error {
	if err := m.linked(ctx); err != nil {
		return err
	}
	_, err := m.roles.await(ctx, m.matches)
	return err
}

// matches reports whether the peer does the opposite of this node, in the same epoch.
func (m *member) matches(s role.State) bool {
	opposite := role.Standby
	if m.roles.taskOf(s).does == role.Takes {
		opposite = role.Production
	}
	return s.Cause != role.New && s.Link && s.Heard.Epoch == s.Epoch && s.Heard.Stored == opposite
}

// opposite refuses a peer that doesn't do the opposite of this group, in the same epoch.
func (g *group) opposite(peer wire.Hello) error {
	own := g.node.hello(g.name)
	opposite := wire.RoleStandby
	if own.Role == wire.RoleStandby {
		opposite = wire.RoleProduction
	}
	switch {
	case own.Epoch != peer.Epoch:
		return &wire.RefusedError{Code: wire.CodeBusy, Text: fmt.Sprintf("group %s is in epoch %d on %s, and in epoch %d on %s",
			g.name, own.Epoch, g.node.name, peer.Epoch, peer.Node)}
	case own.Role == wire.RoleDown || peer.Role != opposite:
		return &wire.RefusedError{Code: wire.CodeBusy, Text: fmt.Sprintf("group %s: %s is %v and %s is %v: want one of them to send and the other one to receive",
			g.name, g.node.name, own.Role, peer.Node, peer.Role)}
	}
	return nil
}

// judgeSession reports why a session with the peer can't be had while there is a
// connection of the pair.
func (m *member) judgeSession(err error) error {
	var refused *wire.RefusedError
	if !errors.As(err, &refused) || m.node.link() == nil {
		return nil
	}
	switch refused.Code {
	case codeContents:
		_ = m.judgeContents(refused, true) // refused itself: worth another try once the peer is another
	case wire.CodeNotAccepted:
		m.board.Raise(health.Condition{Code: health.LinkDown, Group: m.name, Text: refused.Text, Hint: refused.Hint})
	}
	return nil
}

// connected makes conn the group's session.
func (m *member) connected(conn *wire.Conn) {
	m.mu.Lock()
	m.conn = conn
	m.mu.Unlock()
	m.refuseFormer(conn)
	m.signal()
}

// disconnected closes a connection whose session has ended with err.
func (m *member) disconnected(ctx context.Context, conn *wire.Conn, err error) error {
	err = hangUp(ctx, conn, err)
	m.mu.Lock()
	if m.conn == conn {
		m.conn = nil
	}
	m.carried += m.ownDirection(conn.Counters())
	m.mu.Unlock()
	if !errors.Is(err, errStopping) {
		m.logger.Warn("a session has ended", "group", m.name, "error", err)
	}
	m.signal()
	return err
}

// link returns the present session's connection, nil if there is none.
func (m *member) link() *wire.Conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conn
}

// linkBytes counts the bytes that all connections so far have carried in this
// node's direction.
func (m *member) linkBytes() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	total := m.carried
	if m.conn != nil {
		total += m.ownDirection(m.conn.Counters())
	}
	return total
}

// ownDirection is what a primary has sent, or a standby has received.
func (m *member) ownDirection(c wire.Counters) uint64 {
	if m.task().does == role.Sends {
		return c.Sent
	}
	return c.Received
}

// sessionSoon is how long after the pair has connected its groups may take to follow.
const sessionSoon = 5 * time.Second

// awaited reports whether a session is to be expected: the pair is connected, and the
// peer does the opposite of this node, or has had no time to say so.
func (m *member) awaited() bool {
	n := m.node
	n.mu.Lock()
	linked, age := n.conn != nil, n.clock.Mono()-n.connAt
	n.mu.Unlock()
	return linked && (age < sessionSoon || m.matches(m.roles.now()))
}

// unreachable is an error for callers without a time limit while there is no
// session, and for all of them while there can't be one.
func (m *member) unreachable(ctx context.Context) error {
	if err := m.differs(); err != nil {
		return err
	}
	if _, limited := ctx.Deadline(); limited || m.link() != nil || m.awaited() {
		return nil
	}
	return control.Errorf(control.ExitPeer, "the peer can't be reached").
		WithHint("see replctl status; with --timeout the command waits for the link to come back")
}

// storedBarrier returns a barrier of this node's catalog.
func (m *member) storedBarrier(id change.BarrierID) (catalog.StoredBarrier, bool, error) {
	var b catalog.StoredBarrier
	var ok bool
	err := m.catalog.View(func(tx *catalog.Tx) (err error) {
		b, ok, err = tx.Barrier(id)
		return err
	})
	return b, ok, err
}

// journalStatus is the disk use of the group's log.
func (m *member) journalStatus() *control.Journal {
	limit := uint64(m.settings().Journal.Limit)
	return &control.Journal{Bytes: uint64(m.log.Bytes()), LimitBytes: &limit}
}

// barrierOf returns a barrier by its id; what isn't known of it is left out.
func (m *member) barrierOf(id change.BarrierID) *control.Barrier {
	if id.IsZero() {
		return nil
	}
	cert := change.Certificate{ID: id}
	if b, ok, err := m.storedBarrier(id); err == nil && ok {
		cert = b.Certificate
	}
	b := control.BarrierOf(cert)
	return &b
}

// barriers lists the catalog's barriers, newest first.
func (m *member) barriers(req control.BarriersRequest) (*control.BarrierList, error) {
	list := &control.BarrierList{Group: m.name, Barriers: []control.BarrierEntry{}}
	now := m.clock.Now()
	err := m.catalog.View(func(tx *catalog.Tx) error {
		for b := range tx.Barriers() {
			if req.Limit > 0 && len(list.Barriers) == req.Limit {
				break
			}
			list.Barriers = append(list.Barriers, barrierEntry(b, now))
		}
		return nil
	})
	return list, err
}

func barrierEntry(b catalog.StoredBarrier, now time.Time) control.BarrierEntry {
	age := control.Seconds(now.Sub(b.CutAt))
	e := control.BarrierEntry{Barrier: control.BarrierOf(b.Certificate), Age: &age, Files: &b.Files, Bytes: &b.Bytes, State: control.BarrierCaptured}
	switch b.State {
	case catalog.BarrierReceived:
		e.State = control.BarrierReceived
	case catalog.BarrierApplied:
		e.State = control.BarrierApplied
	}
	if b.End.Offset != 0 {
		at := control.LogPositionOf(b.End)
		e.Position = &at
	}
	return e
}

func (m *member) barrierReply(id change.BarrierID, req control.BarrierRequest, start time.Duration) *control.BarrierReply {
	reply := &control.BarrierReply{Barrier: *m.barrierOf(id), Group: m.name, State: req.Wait}
	if reply.State == "" {
		reply.State = control.BarrierCaptured
	}
	reply.Waited = control.Seconds(m.clock.Mono() - start)
	return reply
}
