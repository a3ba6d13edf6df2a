package view

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"repld/health"
	"repld/ready"
)

// maxDifferences is how many of them people are shown; --json has all.
const maxDifferences = 20

// Ready writes a readiness report: the answer, what isn't well with what to do about it,
// what is, and what differs between the nodes.
func Ready(w io.Writer, r *ready.Ready) error {
	var b bytes.Buffer
	row(&b, "", "ready", "%s", readyAnswer(r))
	row(&b, "", "takes", "%s", estimateText(r.Estimate))
	for i := range r.Checks {
		checkRows(&b, &r.Checks[i])
	}
	for i, d := range r.Parity {
		if i == maxDifferences {
			row(&b, "", "parity", "%d more differences: --json lists them", len(r.Parity)-i)
			break
		}
		row(&b, "", "parity", "%-9s%s", d.Severity, oneLine(d.Text))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// InTheWay writes, behind a plan, what keeps it from working.
func InTheWay(w io.Writer, bad []ready.Check) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "It would not work now, %s in the way:\n", count(len(bad), "thing is", "things are"))
	for i := range bad {
		checkRows(&b, &bad[i])
	}
	_, err := w.Write(b.Bytes())
	return err
}

func checkRows(b *bytes.Buffer, c *ready.Check) {
	word := "ok"
	if !c.OK {
		word = strings.ToUpper(string(c.Severity))
	}
	row(b, "", "check", "%-9s%s: %s", word, c.Name, oneLine(c.Text))
	if c.Hint != "" {
		row(b, "", "", "%-9s→ %s", "", c.Hint)
	}
}

func readyAnswer(r *ready.Ready) string {
	what := "a cutover"
	if r.To != "" {
		what += " to " + r.To
	}
	critical, warnings := len(r.Failed(health.Critical)), len(r.Failed(health.Warning))
	switch {
	case !r.Ready:
		return fmt.Sprintf("no: %s would not work now, %s in the way", what, count(critical, "thing is", "things are"))
	case warnings > 0:
		return fmt.Sprintf("yes: %s would work now, with %s", what, count(warnings, "warning", "warnings"))
	}
	return fmt.Sprintf("yes: %s would work now", what)
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func estimateText(e *ready.Estimate) string {
	if e == nil {
		return "unknown: no cutover was measured yet"
	}
	seconds := func(s float64) string {
		return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
	}
	text := "about " + seconds(e.Seconds)
	if e.From == 1 {
		text += ", as the last one"
	} else {
		text += fmt.Sprintf(", the median of the last %d; the longest took %s", e.From, seconds(e.Longest))
	}
	var steps []string
	for _, s := range e.Steps {
		steps = append(steps, s.Step+" "+seconds(s.Seconds))
	}
	if len(steps) > 0 {
		text += " (" + strings.Join(steps, ", ") + ")"
	}
	return text
}

// oneLine keeps a text that came from a program or from the peer on its line.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
}
