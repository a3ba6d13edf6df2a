package alert

import (
	"fmt"
	"strings"
	"testing"

	"repld/health"
)

// board is a health board that the ledger of a test follows.
type board struct {
	*health.Board
	t   *testing.T
	seq uint64
}

// absorb lets l see what happened and returns what stands.
func (b *board) absorb(l *ledger) []health.Condition {
	changes, standing, _ := b.Follow(b.seq)
	if len(changes) > 0 {
		l.absorb(changes, changes[0].Seq-b.seq-1)
		b.seq = changes[len(changes)-1].Seq
	}
	return standing
}

// step absorbs what happened and returns what is to be told, in short.
func (b *board) step(l *ledger, settled bool) ([]Change, string) {
	standing := b.absorb(l)
	diff := l.diff(standing, settled)
	var words []string
	for _, c := range diff {
		if (c.Hint == "") != (c.Kind == health.Resolved) {
			b.t.Errorf("%s %s has the hint %q", c.Kind, c.Code, c.Hint)
		}
		word := fmt.Sprintf("%s %s/%s", c.Kind, c.Code, c.Severity)
		if c.Times > 0 {
			word += fmt.Sprintf(" x%d", c.Times)
		}
		if c.Untold {
			word += " untold"
		}
		words = append(words, word)
	}
	return diff, strings.Join(words, ", ")
}

func TestLedger(t *testing.T) {
	type do = func(b *board)
	raise := func(code health.Code, severity health.Severity) do {
		return func(b *board) { b.Raise(health.Condition{Code: code, Severity: severity, Text: "t"}) }
	}
	text := func(code health.Code, text string) do {
		return func(b *board) { b.Raise(health.Condition{Code: code, Text: text}) }
	}
	resolve := func(code health.Code) do { return func(b *board) { b.Resolve(code, "", "") } }
	for _, test := range []struct {
		name  string
		steps []any // what happens; a string is what is to be told then, and it is told
	}{
		{"nothing", []any{""}},
		{"raised, resolved", []any{text("link-down", "a"), "raised link-down/warning", "", resolve("link-down"), "resolved link-down/warning", ""}},
		{"texts change", []any{text("barrier-late", "1 s"), "raised barrier-late/warning", text("barrier-late", "2 s"), "", resolve("barrier-late"), "resolved barrier-late/warning"}},
		{"graver", []any{raise("disk-low", health.Warning), "raised disk-low/warning", raise("disk-low", health.Critical), "updated disk-low/critical",
			raise("disk-low", health.Info), "updated disk-low/info", resolve("disk-low"), "resolved disk-low/info"}},
		{"graver and back", []any{raise("disk-low", health.Warning), "raised disk-low/warning", raise("disk-low", health.Critical), raise("disk-low", health.Warning), ""}},
		{"came and went", []any{text("link-down", "a"), resolve("link-down"), "resolved link-down/warning x1 untold", ""}},
		{"came and went often", []any{text("link-down", "a"), resolve("link-down"), text("link-down", "b"), resolve("link-down"), "resolved link-down/warning x2 untold", ""}},
		{"came, went, came", []any{text("link-down", "a"), resolve("link-down"), text("link-down", "b"), "raised link-down/warning x2", ""}},
		{"flaps and stands", []any{text("link-down", "a"), "raised link-down/warning", resolve("link-down"), text("link-down", "b"), resolve("link-down"), text("link-down", "c"),
			"updated link-down/warning x2", "", resolve("link-down"), "resolved link-down/warning"}},
		{"flaps and goes", []any{text("link-down", "a"), "raised link-down/warning", resolve("link-down"), text("link-down", "b"), resolve("link-down"),
			"resolved link-down/warning x1", ""}},
		{"the gravest first", []any{text("watch-overflow", "i"), text("link-down", "w"), "raised link-down/warning, raised watch-overflow/info",
			resolve("link-down"), raise("watch-overflow", health.Warning), raise("not-permitted", ""), raise("disk-low", ""),
			"raised disk-low/critical, raised not-permitted/info, updated watch-overflow/warning, resolved link-down/warning"}},
		{"its own failure", []any{func(b *board) { b.Raise(health.Condition{Code: health.AlertFailed, Subject: "s"}) }, "",
			func(b *board) { b.Resolve(health.AlertFailed, "", "s") }, "",
			func(b *board) { b.Raise(health.Condition{Code: health.AlertFailed, Subject: "other"}) }, "raised alert-failed/warning"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &board{Board: health.NewBoard(nil), t: t}
			l := newLedger("s", nil)
			for i, s := range test.steps {
				switch s := s.(type) {
				case func(b *board):
					s(b)
				case string:
					if _, got := b.step(l, true); got != s {
						t.Fatalf("step %d: to tell is %q, want %q", i, got, s)
					}
					l.commit(b.List(), true)
				}
			}
		})
	}
}

// What an earlier process told is neither told again nor resolved too early.
func TestLedgerAfterARestart(t *testing.T) {
	earlier := []health.Condition{{Code: "a", Severity: health.Warning}, {Code: "b", Severity: health.Warning}, {Code: "c", Severity: health.Warning}}
	b := &board{Board: health.NewBoard(nil), t: t}
	l := newLedger("s", earlier)
	want := func(settled bool, want string) {
		t.Helper()
		_, got := b.step(l, settled)
		if got != want {
			t.Fatalf("to tell is %q, want %q", got, want)
		}
		if want != "" {
			l.commit(b.List(), settled)
		}
	}
	want(false, "")
	b.Raise(health.Condition{Code: "a", Hint: "h"})
	want(false, "")
	b.Raise(health.Condition{Code: "d", Hint: "h"})
	want(false, "raised d/warning")
	b.Raise(health.Condition{Code: "b", Hint: "h"})
	b.Resolve("b", "", "") // seen in this process, and over
	want(false, "resolved b/warning x1")
	if !l.unsettled(b.List()) {
		t.Error("c is not waited for")
	}
	want(true, "resolved c/warning")
	want(true, "")
	if l.unsettled(b.List()) {
		t.Error("something is still waited for")
	}
	if got := len(l.conditions()); got != 2 {
		t.Errorf("%d conditions stand as told, want a and d", got)
	}
}

func TestLedgerIsBounded(t *testing.T) {
	b := &board{Board: health.NewBoard(nil), t: t}
	l := newLedger("s", nil)
	for i := range 2 * pastLimit {
		c := health.Condition{Code: health.ForeignWrite, Subject: fmt.Sprint(i)}
		b.Raise(c)
		b.Resolve(c.Code, "", c.Subject)
		b.absorb(l)
	}
	diff, _ := b.step(l, true)
	if len(l.past) != pastLimit || len(diff) != pastLimit || l.unlisted != 2*pastLimit {
		t.Errorf("%d remembered, %d told, %d not listed", len(l.past), len(diff), l.unlisted)
	}
	// The board's own memory is shorter than what happens now.
	l.commit(nil, true)
	before := b.seq
	for range 2000 {
		b.Raise(health.Condition{Code: health.LinkDown})
		b.Resolve(health.LinkDown, "", "")
	}
	diff, _ = b.step(l, true)
	if told := uint64(diff[0].Times*2 + l.unlisted); len(diff) != 1 || told != b.seq-before {
		t.Errorf("%d changes told of, %d happened", told, b.seq-before)
	}
}

// TestNews has what never stands told once, first of all, in its order, and bounded.
func TestNews(t *testing.T) {
	b := &board{Board: health.NewBoard(nil), t: t}
	l := newLedger("s", nil)
	b.Raise(health.Condition{Code: health.DiskLow})
	for i := range newsLimit + 2 {
		b.Announce(health.Condition{Code: health.RoleChanged, Text: fmt.Sprint(i)})
	}
	diff, _ := b.step(l, true)
	standing := b.List()
	if len(diff) != newsLimit+1 || diff[0].Kind != health.Happened || diff[0].Text != "0" || diff[1].Text != "1" || diff[newsLimit].Kind != health.Raised || l.unlisted != 2 {
		t.Errorf("told %+v, and %d not listed", diff, l.unlisted)
	}
	if m := newMessage("slayer", standing[0].Since, diff[:1], 0, standing); m.Summary != "slayer: info role-changed: 0" {
		t.Errorf("the summary is %q", m.Summary)
	}
	l.commit(standing, true)
	if diff, _ := b.step(l, true); len(diff) != 0 {
		t.Errorf("told again %+v", diff)
	}
}

// TestHeldBack hides what is expected during a planned outage, but not the end of what
// the sink was told before it.
func TestHeldBack(t *testing.T) {
	b := &board{Board: health.NewBoard(nil), t: t}
	l := newLedger("s", nil)
	held := func(c health.Code) bool { return c == health.LinkDown || c == health.BarrierLate }
	b.Raise(health.Condition{Code: health.BarrierLate})
	b.step(l, true)
	l.commit(b.List(), true)

	b.Raise(health.Condition{Code: health.LinkDown})
	b.Resolve(health.LinkDown, "", "")
	b.Raise(health.Condition{Code: health.LinkDown})
	b.Resolve(health.BarrierLate, "", "")
	b.absorb(l)
	shown := l.without(held, b.List())
	if diff := l.diff(shown, true); len(diff) != 1 || diff[0].Code != health.BarrierLate || diff[0].Kind != health.Resolved {
		t.Errorf("told during the outage: %+v", diff)
	}
	l.commit(shown, true)
	if diff := l.diff(b.List(), true); len(diff) != 1 || diff[0].Code != health.LinkDown || diff[0].Kind != health.Raised {
		t.Errorf("told after it: %+v", diff)
	}
}
