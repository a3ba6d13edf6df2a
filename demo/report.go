package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"repld/control/view"
)

// screen is where the story is told: lines that stay, and on a terminal one line
// of progress below them.
type screen struct {
	w    io.Writer
	line *view.Line // nil where w is no terminal
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.line = view.NewLine(f)
	}
	return s
}

func (s *screen) terminal() bool { return s.line != nil }

// say tells a line that stays.
func (s *screen) say(format string, args ...any) {
	s.clear()
	fmt.Fprintf(s.w, format+"\n", args...)
}

// progress draws the line of progress, where there is one.
func (s *screen) progress(text string) {
	if s.line != nil {
		s.line.Draw(text)
	}
}

// draw is progress on a terminal, and say elsewhere.
func (s *screen) draw(text string) {
	if s.line == nil {
		s.say("%s", text)
		return
	}
	s.line.Draw(text)
}

func (s *screen) clear() {
	if s.line != nil {
		s.line.Clear()
	}
}

// finish lets the last progress stand.
func (s *screen) finish() {
	if s.line != nil {
		s.line.End()
	}
}

// report prints the table.
func (s *story) report() {
	m := &s.m
	w := s.o.Stdout
	row := func(label, format string, args ...any) {
		fmt.Fprintf(w, "  %-19s%s\n", label, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(w, "\nmeasured\n")
	row("seed", "%s, %s, in %s: %.0f files/s, %s/s", view.Count(m.sample.files, "file"), view.Bytes(m.sample.bytes),
		seconds(m.seeded), perSecond(m.sample.files, m.seeded), view.Bytes(uint64(perSecond(m.sample.bytes, m.seeded))))
	row("application", "%s in %s: %.0f/s", view.Count(m.operations, "operation"), seconds(m.followed), perSecond(m.operations, m.followed))
	row("barriers", "%d cut, %d seen applied, in %s", m.cut, m.appliedBarriers, seconds(m.followed))
	row("lag", "%s", lagText(m.lag))
	if m.written > 0 {
		row("link", "%s for %s written by the application (%.0f %%); %s for the seed",
			view.Bytes(m.link), view.Bytes(m.written), 100*float64(m.link)/float64(m.written), view.Bytes(m.seedLink))
	} else {
		row("link", "%s; %s for the seed", view.Bytes(m.link), view.Bytes(m.seedLink))
	}
	row("peak memory", "%s primary, %s standby", view.Bytes(m.primaryMemory), view.Bytes(m.standbyMemory))
	fmt.Fprintf(w, "\nchanges of roles\n")
	s.changes(row)
	for _, part := range []struct {
		title  string
		checks []check
	}{
		{"checked on the promoted node", s.promoted},
		{"checked of the changes of roles", s.roles},
		{"checked on the standby at the end", s.finally},
	} {
		fmt.Fprintf(w, "\n%s\n", part.title)
		for _, c := range part.checks {
			if c.err == nil {
				row(c.name, "held    %s (%s)", c.text, seconds(c.took))
			} else {
				row(c.name, "FAILED  %v", c.err)
			}
		}
	}
	if s.o.Keep != "" {
		fmt.Fprintf(w, "\neverything is in %s\n", s.place.dir)
	}
	fmt.Fprintf(w, "\n%s in all\n", seconds(m.total))
}

// changes are the rows of the changes of roles: what each took until production, and
// what it lost.
func (s *story) changes(row func(label, format string, args ...any)) {
	m, g := &s.m, s.m.ledger.Groups[0]
	row("failover", "RTO %s from the command to production, %s after the kill the link counted as down", seconds(m.failover.took), seconds(m.noticed))
	row("", "RPO %d of %s, the oldest %s old at the kill", m.failover.lost, view.Count(m.acknowledged, "operation"), seconds(m.failover.stale))
	known := "nothing beyond the barrier's age"
	if g.FileCount > 0 || g.Barriers > 0 || g.Bytes > 0 {
		known = strings.Join([]string{view.Count(g.Barriers, "barrier"), view.Count(g.FileCount, "file"), view.Bytes(g.Bytes)}, ", ")
	}
	row("", "ledger: promoted at barrier %s, cut %s before the kill; known to be given up: %s", g.Barrier, seconds(m.killed.Sub(g.CutAt)), known)
	row("return", "fenced %s after its start", seconds(m.fenced))
	row("rejoin", "%s from the command, a barrier of the new epoch applied after %s; %s on the link, new operations included; kept: %s, %s",
		seconds(m.rejoin.took), seconds(m.following), view.Bytes(m.rejoin.link), view.Count(m.kept.Count, "object"), view.Bytes(m.kept.Bytes))
	row("failback", "RTO %s from the command to production, %s without an operation of the application", seconds(m.failback.took), seconds(m.pause))
	row("", "RPO %s", view.Count(m.failback.lost, "operation"))
}

// perSecond is the rate of n in d.
func perSecond(n uint64, d time.Duration) float64 {
	return float64(n) / max(d.Seconds(), 0.001)
}
