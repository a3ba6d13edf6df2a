package alert

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"repld/health"
)

// The bounds of a message.
const (
	listLimit = 100     // changes, and standing conditions, in the lists
	wordLimit = 4 << 10 // bytes of one environment variable
	summary   = 5       // changes that the summary names
)

// Message is what a sink is told, in JSON on a command's standard input or as the
// body of a request. The fields of the first, gravest change stand at its top.
type Message struct {
	Node string    `json:"node"`
	At   time.Time `json:"at"` // UTC
	Change
	Summary       string             `json:"summary"`                  // one line: the first change, and what others there are
	More          int                `json:"more"`                     // changes besides the first
	Changes       []Change           `json:"changes"`                  // all of them, the first included; at most 100
	Unlisted      int                `json:"unlisted,omitempty"`       // changes that had no place in the list
	Standing      []health.Condition `json:"standing"`                 // what stands now; at most 100
	StandingTotal int                `json:"standing_total,omitempty"` // where the list is shorter
}

// Change is one difference to what the sink was told before.
type Change struct {
	Kind health.Kind `json:"kind"`
	health.Condition
	// Stood is how long a resolved condition stood, in seconds, where it is known.
	Stood float64 `json:"stood_seconds,omitempty"`
	// Times is how often it was raised since the last message, where that was more
	// than once or is not what Kind says.
	Times int `json:"times,omitempty"`
	// Untold is a condition that came and went since the last message.
	Untold bool `json:"untold,omitempty"`
}

// phrase is a change in a few words.
func (c *Change) phrase() string {
	text := string(c.Code)
	if c.Group != "" {
		text += " (" + c.Group + ")"
	}
	switch {
	case c.Kind == health.Happened:
	case c.Untold && c.Times > 1:
		text += fmt.Sprintf(" came and went %d times", c.Times)
	case c.Untold:
		text += " came and went"
	case c.Kind == health.Updated && c.Times > 0:
		text += fmt.Sprintf(" raised again (%d times)", c.Times)
	case c.Kind == health.Updated:
		text += " is " + string(c.Severity) + " now"
	default:
		text += " " + string(c.Kind)
	}
	return text
}

// newMessage lists changes, of which there is at least one, in their order.
func newMessage(node string, at time.Time, changes []Change, unlisted int, standing []health.Condition) *Message {
	first := changes[0]
	m := &Message{
		Node: node, At: at, Change: first,
		Changes: changes[:min(len(changes), listLimit)], Unlisted: unlisted,
		Standing: standing[:min(len(standing), listLimit)],
	}
	m.More = len(changes) - 1 + unlisted
	m.Unlisted += len(changes) - len(m.Changes)
	if len(standing) > listLimit {
		m.StandingTotal = len(standing)
	}
	m.Summary = fmt.Sprintf("%s: %s %s: %s", node, first.Severity, first.phrase(), first.Text)
	if m.More > 0 {
		var others []string
		for _, c := range changes[1:min(len(changes), 1+summary)] {
			others = append(others, c.phrase())
		}
		if left := m.More - len(others); left > 0 {
			others = append(others, fmt.Sprintf("%d not named here", left))
		}
		m.Summary += fmt.Sprintf("; and %d more: %s", m.More, strings.Join(others, ", "))
	}
	m.Summary = line(m.Summary)
	return m
}

// environment is the message for a script that reads no JSON.
func (m *Message) environment() []string {
	variables := [][2]string{
		{"NODE", m.Node}, {"KIND", string(m.Kind)}, {"CODE", string(m.Code)}, {"SEVERITY", string(m.Severity)},
		{"GROUP", m.Group}, {"SUBJECT", m.Subject}, {"TEXT", m.Text}, {"HINT", m.Hint},
		{"SINCE", m.Since.UTC().Format(time.RFC3339Nano)}, {"MORE", fmt.Sprint(m.More)}, {"SUMMARY", m.Summary},
	}
	list := make([]string, 0, len(variables))
	for _, v := range variables {
		list = append(list, "REPLD_"+v[0]+"="+cut(strings.ReplaceAll(v[1], "\x00", "\uFFFD")))
	}
	return list
}

// line makes text fit for a subject line.
func line(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// cut shortens what no environment variable should hold. (execve(2): a single
// string may have 128 KiB.)
func cut(text string) string {
	if len(text) <= wordLimit {
		return text
	}
	text = text[:wordLimit]
	for !utf8.ValidString(text) && len(text) > wordLimit-utf8.UTFMax {
		text = text[:len(text)-1]
	}
	return text + "…"
}
