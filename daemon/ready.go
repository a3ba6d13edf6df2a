package daemon

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/control"
	"repld/health"
	"repld/hook"
	"repld/parity"
	"repld/ready"
	"repld/role"
	"repld/wire"
)

// askReady is the question for the peer's part of the readiness report.
const askReady = "ready"

// readyPart is what a node contributes to the report.
type readyPart struct {
	Node       string             `json:"node"`
	Version    string             `json:"version"`
	Role       string             `json:"role"`
	Status     string             `json:"status"`
	Plan       string             `json:"plan,omitempty"`
	Groups     []ready.Group      `json:"groups"` // of the node that serves
	Disks      []ready.Disk       `json:"disks"`
	Hooks      []ready.Hook       `json:"hooks"`
	Checks     []ready.Probe      `json:"checks"` // of the node that serves
	Databases  []ready.Database   `json:"databases"`
	Conditions []health.Condition `json:"conditions"`
	Runs       []ready.Run        `json:"runs"`
	// Parity are a node's facts as package parity writes them, packed by gzip; absent if
	// they are too large for an answer.
	Parity []byte `json:"parity,omitempty"`
}

// parityMost bounds the packed facts, so that the answer fits into a message: base64
// makes a third more of them.
const parityMost = wire.MaxPairBody / 2

// Ready finds out on both nodes whether a cutover would work; see [control.ReadyBackend].
func (n *node) Ready(ctx context.Context) (*ready.Ready, error) {
	var here, there readyPart
	var asked error
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { here, err = n.readyPart(gctx); return err })
	g.Go(func() error { asked = n.askPeer(gctx, askReady, nil, &there); return nil })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	peer, _, _ := n.peerNow()
	s := n.roles.now()
	f := ready.Facts{
		Node: n.name, Peer: peer.Name, Role: here.Role, Status: here.Status, Plan: here.Plan, LinkUp: s.Link, SkewLimit: clockSkewLimit,
		Version: here.Version, Disks: here.Disks, Hooks: here.Hooks, Checks: here.Checks, Databases: here.Databases, Groups: here.Groups,
		Conditions: here.Conditions, Runs: here.Runs, Coordination: n.roles.readyCoordination(), Maintenance: n.maintenanceLeft(),
	}
	var err error
	if f.Here, err = unpackParity(here.Parity); err != nil {
		return nil, err
	}
	n.mu.Lock()
	f.Skew = n.skew
	n.mu.Unlock()
	if asked != nil {
		f.LinkUp = false // whatever the link looks like: the peer doesn't answer over it
		report := ready.Report(f)
		return &report, nil
	}
	if f.Plan == "" {
		f.Plan = there.Plan
	}
	if there.Role == string(role.Production) {
		f.Groups, f.Checks = there.Groups, there.Checks
	}
	f.PeerRole, f.PeerVersion = there.Role, there.Version
	f.Disks, f.Hooks = append(f.Disks, there.Disks...), append(f.Hooks, there.Hooks...)
	f.Databases, f.Conditions = append(f.Databases, there.Databases...), append(f.Conditions, there.Conditions...)
	f.Runs = append(f.Runs, there.Runs...)
	if f.There, err = unpackParity(there.Parity); err != nil {
		n.logger.Warn("the peer's facts for parity", "error", err)
	}
	report := ready.Report(f)
	return &report, nil
}

// readyPart finds out this node's part. It takes as long as the check hooks and the
// commands of parity do.
func (n *node) readyPart(ctx context.Context) (readyPart, error) {
	status, err := n.Status(ctx)
	if err != nil {
		return readyPart{}, err
	}
	s := n.roles.now()
	p := readyPart{Node: n.name, Version: Version, Role: string(status.Role), Status: string(status.Status), Plan: string(s.Plan.Kind),
		Conditions: status.Health, Disks: n.readyDisks(), Hooks: n.roles.readyHooks(ctx), Databases: n.readyDatabases(ctx), Runs: n.roles.durations().Runs}
	if status.Role == control.RoleProduction {
		p.Groups = n.readyGroups(status)
		p.Checks = n.roles.probe(ctx, s)
	}
	p.Parity = n.packParity(n.parityFacts(ctx))
	return p, ctx.Err()
}

// readyGroups are the groups as the node that serves knows them.
func (n *node) readyGroups(s *control.Status) (groups []ready.Group) {
	for _, g := range s.Groups {
		r := ready.Group{Name: g.Name, Phase: string(g.Phase)}
		if g.Lag != nil && g.Lag.Seconds != nil {
			r.Lag = new(g.Lag.Seconds.Duration())
		}
		if b := g.Barriers.Applied; b != nil {
			r.Uncovered = len(b.Uncovered)
			if b.ConfirmedAge != nil {
				r.Barrier = new(b.ConfirmedAge.Duration())
			} else if b.CutAge != nil {
				r.Barrier = new(b.CutAge.Duration())
			}
		}
		if of, err := n.byName(g.Name); err == nil {
			r.Late = of.settings().Barrier.LateAfter
		}
		groups = append(groups, r)
	}
	return groups
}

// places are the directories beside which this node needs room, by what lies there.
func (n *node) places() (names []string, at map[string]string) {
	at = map[string]string{"state": n.conf.State}
	names = []string{"state"}
	for _, g := range n.groups {
		for _, t := range g.conf.Trees {
			name := "tree " + g.name + "/" + t.Name
			names, at[name] = append(names, name), t.Path
		}
	}
	return names, at
}

func (n *node) readyDisks() (disks []ready.Disk) {
	names, at := n.places()
	for _, name := range names {
		d := ready.Disk{Node: n.name, What: name}
		free, reserve, _, err := n.space(at[name])
		if err != nil {
			d.Unknown = err.Error()
		}
		d.Free, d.Reserve = free, reserve
		disks = append(disks, d)
	}
	return disks
}

// readyDatabases are the replicas of a node that stands by.
func (n *node) readyDatabases(ctx context.Context) (all []ready.Database) {
	for _, g := range n.groups {
		s, _, leave, err := g.use(ctx)
		if err != nil {
			continue // the group's phase tells
		}
		if r, ok := s.(*receiving); ok {
			for _, d := range r.databases() {
				all = append(all, ready.Database{Group: g.name, Name: d.Name, Engine: d.Engine, Connected: d.Connected})
			}
		}
		leave()
	}
	return all
}

// readyHooks says of each hook whether it could work on this machine.
func (r *roles) readyHooks(ctx context.Context) (all []ready.Hook) {
	for _, list := range []role.Hooks{role.PromoteHooks, role.DemoteHooks, role.CheckHooks, role.FenceHooks} {
		for _, h := range r.hooksOf(list) {
			is := ready.Hook{Node: r.name, List: string(list), Hook: h.String()}
			if err := r.runner.Ready(ctx, &h); err != nil {
				is.Failure = err.Error()
			}
			all = append(all, is)
		}
	}
	return all
}

// probe runs the check hooks where services run. It is nobody's change of roles, so no
// event tells of it.
func (r *roles) probe(ctx context.Context, s role.State) (probes []ready.Probe) {
	for _, h := range r.hooksOf(role.CheckHooks) {
		results, _ := hook.New(hook.Options{}).Run(ctx, []hook.Hook{h}, r.facts(role.CheckHooks, s)) // the results tell
		for _, res := range results {
			p := ready.Probe{Hook: res.Hook, Took: res.Took}
			if res.Err != nil {
				p.Failure = res.Text()
			}
			probes = append(probes, p)
		}
	}
	return probes
}

// readyCoordination is what the report says of the lease; nil without coordination.
func (r *roles) readyCoordination() *ready.Coordination {
	if !r.policy.Coordinated {
		return nil
	}
	conf := r.conf.Coordination
	c := &ready.Coordination{DemoteWithin: conf.DemoteWithin - conf.DatabasesWithin, Watchdog: conf.Watchdog != ""}
	for _, h := range r.hooksOf(role.DemoteHooks) {
		c.HookTimeouts += h.Timeout * time.Duration(1+h.Retry)
	}
	if k := r.coordination.keeper.Load(); k != nil {
		s := k.Status()
		c.Answers, c.Holder = s.Answers, s.Holder.Name
		if s.Err != nil {
			c.Err = s.Err.Error()
		}
	}
	return c
}

// parityFacts are what this machine should have in common with its peer.
func (n *node) parityFacts(ctx context.Context) *parity.Facts {
	n.mu.Lock()
	conf := n.live.Parity
	n.mu.Unlock()
	_, disks := n.places()
	o := parity.Options{Node: n.name, Files: conf.Files, Commands: conf.Commands, Disks: disks}
	o.Databases, o.Silent = n.serverSettings(ctx, conf.Settings)
	return parity.Collect(ctx, o)
}

// packParity packs facts; nil if they are too many for a message.
func (n *node) packParity(f *parity.Facts) []byte {
	text, err := f.Marshal()
	if err != nil {
		n.logger.Error("facts for parity", "error", err)
		return nil
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(text) // a buffer takes all
	_ = w.Close()
	if packed.Len() > parityMost {
		n.logger.Warn("facts for parity are too large to be told", "bytes", packed.Len(), "most", parityMost)
		return nil
	}
	return packed.Bytes()
}

// unpackParity is the inverse of packParity.
func unpackParity(packed []byte) (*parity.Facts, error) {
	if packed == nil {
		return nil, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("facts for parity: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(r, parity.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("facts for parity: %w", err)
	}
	return parity.Unmarshal(text)
}
