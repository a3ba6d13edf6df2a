package ready

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"repld/health"
	"repld/parity"
)

// defaultMaxLag is what a cutover can wait for where a group says nothing else: the last
// barrier must be applied while nobody serves.
const defaultMaxLag = 10 * time.Second

// report gathers checks.
type report struct {
	f Facts
	Ready
}

// Report judges facts.
func Report(f Facts) Ready {
	r := &report{f: f, Ready: Ready{Node: f.Node, Peer: f.Peer, Checks: []Check{}, Parity: []parity.Difference{}}}
	switch {
	case f.Role == "production":
		r.To = f.Peer
	case f.PeerRole == "production":
		r.To = f.Node
	}
	r.roles()
	r.link()
	for _, g := range f.Groups {
		r.group(g)
	}
	r.disks()
	r.versions()
	r.clocks()
	r.hooks()
	r.probes()
	for _, d := range f.Databases {
		r.database(d)
	}
	r.coordination()
	if m := r.f.Maintenance; m > 0 {
		r.add("maintenance", health.Warning, false, fmt.Sprintf("found a planned outage for another %s: no alerts of it, and no automatic failover", seconds(m)),
			"replctl maintenance --end when it is over")
	}
	r.health()
	r.parity()
	r.Ready.Estimate = EstimateOf(f.Runs)
	r.Ready.Ready = len(r.Failed(health.Critical)) == 0
	return r.Ready
}

// add notes a check. Text and hint are those of the case that was found.
func (r *report) add(name string, severity health.Severity, ok bool, text, hint string) {
	if ok {
		hint = ""
	}
	r.Checks = append(r.Checks, Check{Name: name, OK: ok, Severity: severity, Text: text, Hint: hint})
}

func (r *report) roles() {
	peer := cmp.Or(r.f.PeerRole, "unknown")
	ok := r.f.Role == "production" && peer == "standby" || r.f.Role == "standby" && peer == "production"
	text := fmt.Sprintf("%s is %s, %s is %s", r.f.Node, r.f.Role, cmp.Or(r.f.Peer, "the peer"), peer)
	if !ok {
		text += ": want one in production and one standing by"
	}
	r.add("roles", health.Critical, ok, text, "replctl status says why a node is down; replctl rejoin makes a former primary the standby")
	text = "no change of roles is under way"
	if r.f.Plan != "" {
		text = fmt.Sprintf("found a %s under way, want none", r.f.Plan)
	}
	r.add("plan", health.Critical, r.f.Plan == "", text, "wait until it has ended; replctl events --follow shows its steps")
}

func (r *report) link() {
	text := "the link is up"
	if !r.f.LinkUp {
		text = "the link is down"
	}
	r.add("link", health.Critical, r.f.LinkUp, text, "see network, firewall and the other node's daemon; without it only a failover is left")
}

func (r *report) group(g Group) {
	r.add("phase "+g.Name, health.Critical, g.Phase == "streaming", "the group is "+cmp.Or(g.Phase, "unknown"),
		"wait until it is streaming; replctl resume ends a pause, and status says why it is halted")
	most := defaultMaxLag
	if g.MaxLag != nil {
		most = *g.MaxLag
	}
	switch {
	case g.Lag == nil:
		r.add("lag "+g.Name, health.Critical, false, "the lag is unknown", "")
	case *g.Lag > most:
		r.add("lag "+g.Name, health.Critical, false, fmt.Sprintf("found a lag of %s, want at most %s", seconds(*g.Lag), seconds(most)),
			"wait until the standby has caught up: nobody would serve meanwhile")
	default:
		r.add("lag "+g.Name, health.Critical, true, fmt.Sprintf("the lag is %s", seconds(*g.Lag)), "")
	}
	switch {
	case g.Barrier == nil:
		r.add("barrier "+g.Name, health.Critical, false, "there is no applied barrier yet", "wait for the first one, at the end of the seed")
	case *g.Barrier > g.Late:
		r.add("barrier "+g.Name, health.Warning, false, fmt.Sprintf("the newest applied barrier was confirmed %s ago, want at most %s", seconds(*g.Barrier), seconds(g.Late)),
			"replctl barrier --wait applied shows whether one can be cut now")
	default:
		r.add("barrier "+g.Name, health.Warning, true, fmt.Sprintf("the newest applied barrier was confirmed %s ago", seconds(*g.Barrier)), "")
	}
	if g.Uncovered > 0 {
		r.add("uncovered "+g.Name, health.Warning, false, fmt.Sprintf("found %s that the newest barrier doesn't hold", english.Plural(g.Uncovered, "file", "")),
			"once the services have stopped the last barrier holds them; who else writes to them must stop, too")
	}
}

func (r *report) disks() {
	bad := false
	for _, d := range r.f.Disks {
		what := fmt.Sprintf("%s on %s", d.What, d.Node)
		switch {
		case d.Unknown != "":
			bad = true
			r.add("disk", health.Warning, false, what+": "+d.Unknown, "")
		case d.Free <= d.Reserve:
			bad = true
			r.add("disk", health.Critical, false, fmt.Sprintf("%s: found %s free, want more than %s, the reserve", what, humanize.IBytes(d.Free), humanize.IBytes(d.Reserve)),
				"free space there, or lower disk_reserve")
		}
	}
	if !bad {
		r.add("disk", health.Critical, len(r.f.Disks) > 0, map[bool]string{true: "there is space on both nodes", false: "nobody has looked at the disks"}[len(r.f.Disks) > 0], "")
	}
}

func (r *report) versions() {
	switch {
	case r.f.PeerVersion == "":
		r.add("version", health.Warning, false, "the peer's version is unknown", "")
	case r.f.Version != r.f.PeerVersion:
		r.add("version", health.Warning, false, fmt.Sprintf("found repld %s here and %s there, want the same", r.f.Version, r.f.PeerVersion),
			"upgrade the standby first, then change roles, then upgrade the other one")
	default:
		r.add("version", health.Warning, true, "both nodes have repld "+r.f.Version, "")
	}
}

func (r *report) clocks() {
	switch {
	case r.f.Skew == nil:
		r.add("clock", health.Warning, false, "how far the clocks are apart is unknown", "")
	case r.f.Skew.Abs() > r.f.SkewLimit:
		r.add("clock", health.Warning, false, fmt.Sprintf("the clocks are %s apart, want at most %s", seconds(r.f.Skew.Abs()), seconds(r.f.SkewLimit)),
			"have both nodes follow one source of time: applications may not like a step back")
	default:
		r.add("clock", health.Warning, true, fmt.Sprintf("the clocks are %s apart", seconds(r.f.Skew.Abs())), "")
	}
}

func (r *report) hooks() {
	bad := false
	for _, h := range r.f.Hooks {
		if h.Failure == "" {
			continue
		}
		bad = true
		r.add("hooks", health.Critical, false, fmt.Sprintf("%s, %s hook %s: %s", h.Node, h.List, h.Hook, h.Failure), "what it names must be there on that node before roles change")
	}
	if !bad {
		text := english.Plural(len(r.f.Hooks), "hook", "") + " could run"
		if len(r.f.Hooks) == 0 {
			text = "there are no hooks: repld starts and stops no services"
		}
		r.add("hooks", health.Critical, true, text, "")
	}
}

func (r *report) probes() {
	for _, p := range r.f.Checks {
		if p.Failure != "" {
			r.add("check "+p.Hook, health.Warning, false, p.Failure, "the services don't do now what is expected of them after a cutover")
			continue
		}
		r.add("check "+p.Hook, health.Warning, true, "well after "+seconds(p.Took), "")
	}
}

func (r *report) database(d Database) {
	name := "database " + d.Group + "/" + d.Name
	switch {
	case d.Failure != "":
		r.add(name, health.Critical, false, d.Failure, "replctl database status shows what the gate holds")
	case !d.Connected:
		r.add(name, health.Critical, false, "the replica doesn't follow", "see that its server runs; replctl database seed makes it anew")
	case d.Distance == nil:
		r.add(name, health.Critical, true, "the replica follows", "")
	default:
		r.add(name, health.Critical, true, fmt.Sprintf("the replica follows, %s behind", humanize.IBytes(*d.Distance)), "")
	}
}

func (r *report) coordination() {
	c := r.f.Coordination
	if c == nil {
		return
	}
	text := "etcd answers"
	if c.Holder != "" {
		text += fmt.Sprintf(", %s has the lease", c.Holder)
	}
	if !c.Answers {
		text = "etcd doesn't answer: " + cmp.Or(c.Err, "no answer came")
	}
	r.add("coordination", health.Critical, c.Answers, text, "without a majority of its members nobody is promoted")
	if c.HookTimeouts > c.DemoteWithin {
		text := fmt.Sprintf("the demote hooks may take %s, but are killed after %s when the lease is lost", seconds(c.HookTimeouts), seconds(c.DemoteWithin))
		hint := "give them shorter time limits, or coordination a longer ttl"
		if !c.Watchdog {
			hint += "; a watchdog resets the machine if they don't make it"
		}
		r.add("demotion", health.Warning, false, text, hint)
	}
}

func (r *report) health() {
	n := 0
	for _, c := range r.f.Conditions {
		if c.Severity == health.Critical {
			n++
			name := string(c.Code)
			if c.Group != "" {
				name += " " + c.Group
			}
			r.add("health "+name, health.Critical, false, c.Text, c.Hint)
		}
	}
	if n == 0 {
		r.add("health", health.Critical, true, "nothing critical stands", "")
	}
}

func (r *report) parity() {
	if r.f.Here == nil || r.f.There == nil {
		r.add("parity", health.Warning, false, "what the nodes have in common is not known yet", "the peer tells once the link is up")
		return
	}
	r.Parity = append(r.Parity, parity.Compare(r.f.Here, r.f.There)...)
	serious := len(slices.DeleteFunc(slices.Clone(r.Parity), func(d parity.Difference) bool { return d.Severity == health.Info }))
	text := fmt.Sprintf("found %s, none that matters", english.Plural(len(r.Parity), "difference", ""))
	switch {
	case len(r.Parity) == 0:
		text = "nothing differs of what is compared"
	case serious > 0:
		text = fmt.Sprintf("found %s that may matter", english.Plural(serious, "difference", ""))
	}
	r.add("parity", health.Warning, serious == 0, text, "they are listed below; what is named in parity should be the same on both nodes")
}

// seconds is a duration as people read it.
func seconds(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < 10*time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
