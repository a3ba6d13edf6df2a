package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"repld/alert"
	"repld/change"
	"repld/config"
	"repld/control"
	"repld/health"
	"repld/notify"
	"repld/role"
	"repld/wire"
)

// node is one daemon.
type node struct {
	opts   Options
	conf   *config.Config // as it was at the start
	clock  change.Clock
	logger *slog.Logger
	board  *health.Board
	state  *stateDir
	events *control.EventLog
	id     *wire.Identity
	name   string
	groups []*group

	short   atomic.Bool // of space for the state directory
	roles   *roles
	alerter *alert.Alerter
	notify  *notify.Service

	invites  *wire.Invites
	listener *wire.Listener // nil: this node doesn't listen

	mu       sync.Mutex
	live     config.Live
	peer     peerFile
	peerKey  wire.Fingerprint
	paired   bool
	conn     *wire.Conn      // of the pair; nil without a link
	talk     *talk           // over conn
	connAt   time.Duration   // monotonic, when conn came
	peerSays *wire.NodeState // nil until it has said something
	lastSeen time.Time
	// lastSeenMono is the same by the monotonic clock.
	lastSeenMono time.Duration
	maintenance  maintenanceFile
	skew         *time.Duration // of the peer's wall clock to this one's; nil = unknown
	changed      chan struct{}  // closed when anything above changes
}

// openNode opens what a node has beside its groups. The caller closes it.
func openNode(o Options) (*node, error) {
	c := o.Config
	n := &node{opts: o, conf: c, live: c.Live, clock: o.Clock, logger: o.Logger, board: health.NewBoard(o.Clock), name: c.Node, changed: make(chan struct{}),
		notify: notify.New(notify.Options{Logger: o.Logger})}
	for _, g := range c.Groups {
		for _, t := range g.Trees {
			if err := checkApart(c.State, t.Path); err != nil {
				return nil, err
			}
		}
	}
	if n.name == "" {
		var err error
		if n.name, err = os.Hostname(); err != nil {
			return nil, control.Errorf(control.ExitFailed, "the name of this host: %w", err).WithHint("give the node a name")
		}
	}
	if err := n.open(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *node) open() (err error) {
	if n.state, err = openState(n.conf.State); err != nil {
		return err
	}
	claim := nodeFile{Role: Standby, Name: n.name}
	if n.primary() {
		claim.Role = Primary
	}
	if q := n.opts.quick; q != nil {
		claim.Dir = q.dir
	}
	if err := n.state.claim(claim); err != nil {
		return err
	}
	if n.peer, n.peerKey, n.paired, err = n.state.peer(); err != nil {
		return err
	}
	if n.id, err = wire.LoadOrCreateIdentity(n.state.path); err != nil {
		return explain(err)
	}
	if n.events, err = control.OpenEventLog(n.state.path, control.EventLogOptions{Clock: n.clock}); err != nil {
		return err
	}
	if n.invites, err = n.openInvites(); err != nil {
		return err
	}
	if n.alerter, err = n.openAlerts(); err != nil {
		return err
	}
	if err := n.loadMaintenance(); err != nil {
		return err
	}
	if n.roles, err = n.openRoles(); err != nil {
		return err
	}
	for _, o := range n.conf.Groups {
		g, err := newGroup(n, o)
		if err != nil {
			return err
		}
		n.groups = append(n.groups, g)
	}
	return nil
}

func (n *node) close() {
	if n.events != nil {
		n.events.Close()
	}
	if n.state != nil {
		n.state.close()
	}
}

// primary reports whether this node is meant to produce. Whether it does, its role says.
func (n *node) primary() bool { return n.conf.Designated == config.Primary }

// describe says what has started.
func (n *node) describe() string {
	kind := "standby"
	if n.primary() {
		kind = "primary"
	}
	var trees []string
	for _, g := range n.groups {
		for _, t := range g.conf.Trees {
			trees = append(trees, t.Path)
		}
	}
	text := fmt.Sprintf("repld %s of %s", kind, strings.Join(trees, ", "))
	if n.listener != nil {
		text += fmt.Sprintf(", listening on %s", n.listener.Addr())
	}
	return text
}

// event notes that something happened to the node.
func (n *node) event(typ control.EventType, attrs map[string]string, format string, args ...any) {
	e := control.Event{Type: typ, Text: fmt.Sprintf(format, args...), Attrs: attrs}
	n.note(e)
	level := slog.LevelInfo
	if typ == control.EventReloadFailed {
		level = slog.LevelError
	}
	n.logger.Log(context.Background(), level, e.Text, "event", string(typ))
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
			e := control.Event{Group: c.Condition.Group,
				Attrs: map[string]string{"code": string(c.Condition.Code), "severity": string(c.Condition.Severity)}}
			switch c.Kind {
			case health.Raised:
				e.Type, e.Text = control.EventConditionRaised, fmt.Sprintf("%s: %s", c.Condition.Code, c.Condition.Text)
			case health.Resolved:
				e.Type, e.Text = control.EventConditionResolved, fmt.Sprintf("%s is over", c.Condition.Code)
			default:
				continue
			}
			n.note(e)
			n.logger.Info(e.Text, "event", string(e.Type), "group", e.Group)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
	}
}

// signal wakes everybody who waits for the pair.
func (n *node) signal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}

// setPeer stores the peer durably, with what it says of itself. A former one is served
// no longer.
func (n *node) setPeer(p peerFile, key wire.Fingerprint, says wire.Hello) error {
	// First the role: what a crash leaves of the pairing then is what an operator repeats.
	if err := n.roles.paired(role.ID(key.String()), says); err != nil {
		return err
	}
	if err := n.state.store("peer.yaml", p); err != nil {
		return err
	}
	n.mu.Lock()
	another := n.paired && n.peerKey != key
	n.peer, n.peerKey, n.paired = p, key, true
	if another {
		n.peerSays, n.lastSeen, n.lastSeenMono = nil, time.Time{}, 0
	}
	n.mu.Unlock()
	n.signal()
	n.event(control.EventPaired, map[string]string{"peer": p.Name, "key": p.Key}, "paired with %s", p.Name)
	if another {
		n.leaveFormer()
	}
	return nil
}

// leaveFormer ends the connections with a former peer and forgets what it said.
func (n *node) leaveFormer() {
	n.refuseFormer(n.link())
	for _, g := range n.groups {
		g.mu.Lock()
		s := g.side
		g.mu.Unlock()
		if s != nil {
			n.refuseFormer(s.link())
			s.forget()
		}
	}
}

// refuseFormer ends a connection if another peer has taken the place of the one that
// it is with. Who stores a connection calls it after that, and who stores a peer too.
func (n *node) refuseFormer(conn *wire.Conn) {
	peer, key, _ := n.peerNow()
	if conn != nil && conn.PeerFingerprint() != key {
		conn.Close(&wire.RefusedError{Code: wire.CodeNotAccepted, Text: fmt.Sprintf("%s is paired with %s now", n.name, peer.Name)})
	}
}

func (n *node) peerNow() (peerFile, wire.Fingerprint, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peer, n.peerKey, n.paired
}

// hello is what this node says of itself on a connection for a group, or for the
// pair. On that of a group the role is what the group's side does, and the epoch that of
// its data.
func (n *node) hello(group string) wire.Hello {
	s := n.roles.now()
	h := wire.Hello{Software: Version, Node: n.name, Epoch: s.Epoch.Number, Designated: wire.DesignatedSecondary, Group: group}
	if n.primary() {
		h.Designated = wire.DesignatedPrimary
	}
	t := n.roles.taskOf(s)
	if group != "" {
		h.Epoch = t.epoch
	}
	switch t.does {
	case role.Sends:
		h.Role = wire.RoleProduction
	case role.Takes:
		h.Role = wire.RoleStandby
	default:
		h.Role = wire.RoleDown
	}
	if g, err := n.byName(group); err == nil {
		h.Contents = g.contents()
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
