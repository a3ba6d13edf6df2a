package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"repld/change"
	"repld/control"
	"repld/health"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
	"repld/wire"
)

// Quick mode has one group with one tree.
const (
	quickGroup = "tree"
	quickTree  = "tree"
)

// quickEpoch is the epoch of a pair in quick mode, where no role ever changes.
const quickEpoch change.Epoch = 1

// journalLimit bounds a group's log on disk on either side, in bytes.
const journalLimit = 8 << 30

// node is what both sides of a pair have.
type node struct {
	opts   Options
	clock  change.Clock
	logger *slog.Logger
	board  *health.Board
	state  *stateDir
	events *control.EventLog
	id     *wire.Identity
	name   string
	dir    string // absolute

	seed    seedClock
	log     *journal.Log
	catalog *catalog.Catalog

	mu       sync.Mutex
	peer     peerFile
	peerKey  wire.Fingerprint
	paired   bool
	conn     *wire.Conn // nil without a link
	lastSeen time.Time
	carried  uint64        // by links that have ended, bytes in this node's direction
	changed  chan struct{} // closed when anything that callers wait for changes
}

// openNode opens everything that both sides have. The caller closes it.
func openNode(o Options) (*node, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, control.Errorf(control.ExitUsage, "%s: %w", o.Dir, err)
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	if o.State == "" {
		if o.State, err = control.QuickState(dir); err != nil {
			return nil, err
		}
	}
	if o.State, err = filepath.Abs(o.State); err != nil {
		return nil, control.Errorf(control.ExitUsage, "state directory: %w", err)
	}
	if err := checkApart(o.State, dir); err != nil {
		return nil, err
	}
	n := &node{opts: o, clock: change.SystemClock(), logger: o.Logger, dir: dir, changed: make(chan struct{})}
	n.board = health.NewBoard(n.clock)
	if n.name = o.Name; n.name == "" {
		if n.name, err = os.Hostname(); err != nil {
			return nil, control.Errorf(control.ExitFailed, "the name of this host: %w", err).WithHint("give a name with --name")
		}
	}
	if err := n.open(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *node) open() (err error) {
	if n.state, err = openState(n.opts.State); err != nil {
		return err
	}
	if err := n.state.claim(nodeFile{Role: n.opts.Role, Dir: n.dir, Name: n.name}); err != nil {
		return err
	}
	if n.peer, n.peerKey, n.paired, err = n.state.peer(); err != nil {
		return err
	}
	if n.id, err = wire.LoadOrCreateIdentity(n.state.path); err != nil {
		return explain(err)
	}
	if n.events, err = control.OpenEventLog(n.state.path, control.EventLogOptions{}); err != nil {
		return err
	}
	dir, err := n.state.group(quickGroup)
	if err != nil {
		return err
	}
	if n.catalog, err = catalog.Open(filepath.Join(dir, "catalog.db"), catalog.Options{}); err != nil {
		return explain(err)
	}
	if n.log, err = journal.Open(filepath.Join(dir, "log"), journal.Options{}); err != nil {
		return explain(err)
	}
	return nil
}

func (n *node) close() {
	if n.log != nil {
		if err := n.log.Close(); err != nil {
			n.logger.Error("close the log", "error", err)
		}
	}
	if n.catalog != nil {
		if err := n.catalog.Close(); err != nil {
			n.logger.Error("close the catalog", "error", err)
		}
	}
	if n.events != nil {
		n.events.Close()
	}
	if n.state != nil {
		n.state.close()
	}
}

// checkDir refuses what can't be a replicated tree before anything is made.
func checkDir(dir string) error {
	root, err := tree.Open(dir, tree.Options{})
	if err != nil {
		return explain(err)
	}
	return root.Close()
}

// event notes that something happened.
func (n *node) event(typ control.EventType, attrs map[string]string, format string, args ...any) {
	e := control.Event{Type: typ, Group: quickGroup, Text: fmt.Sprintf(format, args...), Attrs: attrs}
	n.note(e)
	n.logger.Info(e.Text, "event", string(typ))
}

// note keeps an event without logging it.
func (n *node) note(e control.Event) {
	if err := n.events.Add(e); err != nil {
		n.logger.Error("note an event", "event", e.Text, "error", err)
	}
}

// follow notes conditions that are raised and resolved, until ctx ends.
func (n *node) follow(ctx context.Context) error {
	var seen uint64
	for {
		changes, more := n.board.Changes(seen)
		for _, c := range changes {
			seen = c.Seq
			attrs := map[string]string{"code": string(c.Condition.Code), "severity": string(c.Condition.Severity)}
			switch c.Kind {
			case health.Raised:
				n.event(control.EventConditionRaised, attrs, "%s: %s", c.Condition.Code, c.Condition.Text)
			case health.Resolved:
				n.event(control.EventConditionResolved, attrs, "%s is over", c.Condition.Code)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
	}
}

// signal wakes everybody who waits for progress.
func (n *node) signal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}

// waitFor returns when done says so, asked at every signal.
func (n *node) waitFor(ctx context.Context, done func() (bool, error)) error {
	for {
		n.mu.Lock()
		changed := n.changed
		n.mu.Unlock()
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// linkUp makes conn the link.
func (n *node) linkUp(conn *wire.Conn) {
	hello := conn.PeerHello()
	n.mu.Lock()
	n.conn, n.lastSeen = conn, n.clock.Now()
	n.mu.Unlock()
	n.board.Resolve(health.LinkDown, "", "")
	n.board.Resolve(health.PeerVersion, "", "")
	n.judgeClock(conn)
	n.event(control.EventLinkUp, map[string]string{"peer": hello.Node, "address": conn.RemoteAddr().String()},
		"connected to %s at %s", hello.Node, conn.RemoteAddr())
	n.signal()
}

// errStopping is why a link ends when this node, or a newer link, ends it.
var errStopping = errors.New("this node ended it")

// hangUp closes a connection whose session has ended with err, which the peer is
// told unless this node ended it of its own will, and returns the reason.
func (n *node) hangUp(ctx context.Context, conn *wire.Conn, err error) error {
	if ctx.Err() != nil {
		err = errStopping
		conn.Close(nil)
	} else {
		conn.Close(err)
	}
	n.linkDown(conn, err)
	return err
}

// linkDown ends the link that conn was.
func (n *node) linkDown(conn *wire.Conn, reason error) {
	n.mu.Lock()
	current := n.conn == conn
	if current {
		n.conn, n.lastSeen = nil, n.clock.Now()
		n.carried += n.ownDirection(conn.Counters())
	}
	n.mu.Unlock()
	if !current {
		return
	}
	n.event(control.EventLinkDown, nil, "the link is down: %v", reason)
	n.board.Raise(health.Condition{Code: health.LinkDown, Text: fmt.Sprintf("no link to the peer: %v", reason)})
	n.signal()
}

// clockSkewLimit is how far the two wall clocks may differ before it is reported.
const clockSkewLimit = 5 * time.Second

func (n *node) judgeClock(conn *wire.Conn) {
	offset := conn.ClockOffset()
	if offset.Abs() < clockSkewLimit {
		n.board.Resolve(health.ClockSkew, "", "")
		return
	}
	n.board.Raise(health.Condition{Code: health.ClockSkew,
		Text: fmt.Sprintf("the peer's clock is %v ahead of this node's; up to %v is normal", offset.Round(time.Millisecond), clockSkewLimit)})
}

// link returns the present link, nil if there is none.
func (n *node) link() *wire.Conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conn
}

// setPeer stores the peer durably.
func (n *node) setPeer(p peerFile, key wire.Fingerprint) error {
	if err := n.state.store("peer.yaml", p); err != nil {
		return err
	}
	n.mu.Lock()
	n.peer, n.peerKey, n.paired = p, key, true
	n.mu.Unlock()
	return nil
}

func (n *node) peerNow() (peerFile, wire.Fingerprint, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peer, n.peerKey, n.paired
}

// hello is what this node says of itself.
func (n *node) hello() wire.Hello {
	h := wire.Hello{Software: Version, Node: n.name, Role: wire.RoleStandby, Epoch: quickEpoch, Designated: wire.DesignatedSecondary}
	if n.opts.Role == Primary {
		h.Role, h.Designated = wire.RoleProduction, wire.DesignatedPrimary
	}
	return h
}

// bootID tells this boot of the machine from others; see proc(5).
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
