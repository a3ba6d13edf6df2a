package view

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"repld/control"
	"repld/health"
)

// Status writes s as a table. Ages are as of now; seed is the line of a seed in
// progress for each group, and may be nil.
func Status(w io.Writer, s *control.Status, now time.Time, seed func(*control.Group) string) error {
	var b bytes.Buffer
	row(&b, "", "node", "%s, repld %s, epoch %d", s.Node, s.Version, s.Epoch)
	row(&b, "", "role", "%s (status %s, designated %s)", s.Role, s.Status, s.Designated)
	if s.Why != "" {
		row(&b, "", "", "%s", s.Why)
	}
	if s.Plan != nil {
		row(&b, "", "plan", "%s", Plan(s.Plan))
	}
	row(&b, "", "peer", "%s", peerText(s.Peer, now))
	if c := s.Coordination; c != nil {
		row(&b, "", "lease", "%s", coordinationText(c))
	}
	if m := s.Maintenance; m != nil {
		row(&b, "", "maintenance", " for another %s: no alerts of the outage, no automatic failover", Duration(m.Left.Duration()))
	}
	for i := range s.Groups {
		groupRows(&b, &s.Groups[i], now, seed)
	}
	if len(s.Health) == 0 {
		row(&b, "", "health", "ok")
	}
	for _, c := range s.Health {
		row(&b, "", "health", "%s", Condition(&c, now))
		if c.Hint != "" {
			row(&b, "", "", "→ %s", c.Hint)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Condition formats a condition in one line, without its hint.
func Condition(c *health.Condition, now time.Time) string {
	text := fmt.Sprintf("%s %s", strings.ToUpper(string(c.Severity)), c.Code)
	if c.Group != "" {
		text += " (" + c.Group + ")"
	}
	if !c.Since.IsZero() {
		text += " for " + Duration(now.Sub(c.Since))
	}
	return text + ": " + c.Text
}

func row(b *bytes.Buffer, indent, label, format string, args ...any) {
	fmt.Fprintf(b, "%-12s%s\n", indent+label, fmt.Sprintf(format, args...))
}

// Plan says how far a change of roles has come, in one line.
func Plan(p *control.RolePlan) string {
	switch {
	case p.Back:
		return fmt.Sprintf("%s is taken back, at step %s: %s", p.Kind, p.Step, p.Failure)
	case p.Failure != "":
		return fmt.Sprintf("%s has stopped at step %s: %s", p.Kind, p.Step, p.Failure)
	}
	return fmt.Sprintf("%s, at step %s", p.Kind, p.Step)
}

func coordinationText(c *control.Coordination) string {
	parts := []string{"held by nobody that is known"}
	switch {
	case c.Held:
		parts = []string{"held by this node"}
	case c.Holder != "":
		parts = []string{"held by " + c.Holder}
	}
	if c.Watchdog {
		parts = append(parts, "watchdog armed")
	}
	if !c.Answers {
		parts = append(parts, "etcd does not answer")
	}
	if c.Failover != "" && !c.Held {
		parts = append(parts, "failover: "+c.Failover)
	}
	return strings.Join(parts, ", ")
}

func peerText(p *control.Peer, now time.Time) string {
	if p == nil {
		return "none yet"
	}
	parts := []string{"link " + string(p.Link)}
	if p.Status != "" {
		parts = append(parts, string(p.Status))
	}
	if p.RTT != nil {
		parts = append(parts, fmt.Sprintf("round trip %.2g ms", p.RTT.Duration().Seconds()*1000))
	}
	if p.Link != control.LinkUp && !p.LastSeen.IsZero() {
		parts = append(parts, "last seen "+Duration(now.Sub(p.LastSeen.Time))+" ago")
	}
	name := strings.TrimSpace(p.Name + " " + p.Address)
	if name == "" {
		name = "unnamed"
	}
	return name + ": " + strings.Join(parts, ", ")
}

func groupRows(b *bytes.Buffer, g *control.Group, now time.Time, seed func(*control.Group) string) {
	row(b, "", "group", "%s: %s", g.Name, g.Phase)
	for _, t := range g.Trees {
		row(b, "  ", "path", "%s", t.Path)
	}
	if g.Seed != nil && g.Phase == control.PhaseSeeding && seed != nil {
		row(b, "  ", "seed", "%s", seed(g))
	}
	barrierRow(b, "captured", g.Barriers.Captured, now)
	barrierRow(b, "received", g.Barriers.Received, now)
	barrierRow(b, "applied", g.Barriers.Applied, now)
	if text := lagText(g.Lag); text != "" {
		row(b, "  ", "lag", "%s", text)
	}
	if t := g.Tree; t != nil {
		text := Count(t.Files, "file") + ", " + Bytes(t.Bytes)
		if !t.Digest.IsZero() {
			text += ", " + Digest(t.Digest)
		}
		row(b, "  ", "tree", "%s", text)
	}
	if j := g.Journal; j != nil {
		text := Bytes(j.Bytes)
		if j.LimitBytes != nil {
			text += " of at most " + Bytes(*j.LimitBytes)
		}
		row(b, "  ", "journal", "%s", text)
	}
	if s := g.Sent; s != nil {
		row(b, "  ", "link", "%s", sentText(s))
	}
}

func barrierRow(b *bytes.Buffer, label string, barrier *control.Barrier, now time.Time) {
	if barrier == nil {
		row(b, "  ", label, "none yet")
		return
	}
	text := fmt.Sprintf("%s, cut %s ago", barrier.ID, Duration(age(barrier.CutAge, barrier.CutAt, now)))
	if !barrier.ConfirmedAt.IsZero() {
		text += ", confirmed " + Duration(age(barrier.ConfirmedAge, barrier.ConfirmedAt, now)) + " ago"
	}
	if at := Databases(barrier.Databases); at != "" {
		text += ", " + at
	}
	if barrier.Rung == "polled" {
		text += ", not a consistent cut (polled)"
	}
	if n := len(barrier.Uncovered); n > 0 {
		text += fmt.Sprintf(", %s uncovered", Count(uint64(n), "file"))
	}
	row(b, "  ", label, "%s", text)
}

// age is how long ago something was: as the daemon says, whose clock may have been
// set since, else by the wall clock.
func age(said *control.Seconds, at control.Time, now time.Time) time.Duration {
	if said != nil {
		return said.Duration()
	}
	return now.Sub(at.Time)
}

func lagText(l *control.Lag) string {
	if l == nil {
		return ""
	}
	var parts []string
	if l.Seconds != nil {
		parts = append(parts, Duration(l.Seconds.Duration()))
	}
	if l.Bytes != nil {
		parts = append(parts, Bytes(*l.Bytes))
	}
	if l.Files != nil {
		parts = append(parts, Count(*l.Files, "file"))
	}
	return strings.Join(parts, ", ")
}

func sentText(s *control.Sent) string {
	text := fmt.Sprintf("%s in %s", Bytes(s.Bytes), Count(s.Chunks, "chunk"))
	if s.BytesBeforeCompression != nil {
		text += fmt.Sprintf(" (%s before compression)", Bytes(*s.BytesBeforeCompression))
	}
	if n := s.ChunksDeduplicated; n != nil && *n > 0 {
		text += fmt.Sprintf(", %s not sent again", Count(*n, "chunk"))
	}
	return text
}
