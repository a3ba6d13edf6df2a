package health

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"repld/change"
)

// Condition is one standing trouble.
type Condition struct {
	Code     Code      `json:"code"`
	Severity Severity  `json:"severity"`
	Since    time.Time `json:"since"`           // when it began, UTC
	Group    string    `json:"group,omitempty"` // consistency group, "" = the node
	Subject  string    `json:"subject,omitempty"`
	Text     string    `json:"text"` // what was found and what was wanted
	Hint     string    `json:"hint,omitempty"`

	// Age is how long it has stood, by the monotonic clock.
	Age time.Duration `json:"-"`
}

// Change is a condition's beginning, end, or change of text.
type Change struct {
	Seq       uint64    `json:"seq"` // 1, 2, 3, … since the process began
	At        time.Time `json:"at"`  // wall clock, UTC
	Kind      Kind      `json:"kind"`
	Condition Condition `json:"condition"`
}

// Kind says what happened to a condition.
type Kind string

// The kinds of changes.
const (
	Raised   Kind = "raised"
	Updated  Kind = "updated" // another text, hint or severity
	Resolved Kind = "resolved"
	Happened Kind = "happened" // news that doesn't stand; see [Board.Announce]
)

// historyLimit is how many changes a board remembers.
const historyLimit = 1024

type key struct {
	code           Code
	group, subject string
}

type standing struct {
	Condition
	since time.Duration // monotonic
}

// Board holds the conditions of one node. It is safe for concurrent use.
type Board struct {
	clock change.Clock

	mu      sync.Mutex
	now     map[key]*standing
	seq     uint64
	history []Change
	more    chan struct{} // closed at the next change
}

// NewBoard returns an empty board; a nil clock is the system's.
func NewBoard(clock change.Clock) *Board {
	if clock == nil {
		clock = change.SystemClock()
	}
	return &Board{clock: clock, now: make(map[key]*standing), more: make(chan struct{})}
}

// Raise says that c stands. Severity and hint come from [Describe] where c has
// none; Since and Age are the board's own. It reports whether the board changed:
// raising the same again does nothing.
func (b *Board) Raise(c Condition) bool {
	severity, hint := Describe(c.Code)
	c.Severity = cmp.Or(c.Severity, severity)
	c.Hint = cmp.Or(c.Hint, hint)
	b.mu.Lock()
	defer b.mu.Unlock()
	k := key{c.Code, c.Group, c.Subject}
	if s, ok := b.now[k]; ok {
		if s.Text == c.Text && s.Hint == c.Hint && s.Severity == c.Severity {
			return false
		}
		s.Text, s.Hint, s.Severity = c.Text, c.Hint, c.Severity
		b.record(Updated, s)
		return true
	}
	s := &standing{Condition: c, since: b.clock.Mono()}
	b.now[k] = s
	b.record(Raised, s)
	return true
}

// Announce tells of something that has happened and doesn't stand, such as a change of
// roles: followers see it, and lists don't.
func (b *Board) Announce(c Condition) {
	severity, hint := Describe(c.Code)
	c.Severity, c.Hint = cmp.Or(c.Severity, severity), cmp.Or(c.Hint, hint)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.record(Happened, &standing{Condition: c, since: b.clock.Mono()})
}

// Resolve says that a condition no longer stands and reports whether it stood.
func (b *Board) Resolve(code Code, group, subject string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := key{code, group, subject}
	s, ok := b.now[k]
	if !ok {
		return false
	}
	delete(b.now, k)
	b.record(Resolved, s)
	return true
}

// Reconcile makes the conditions of group with one of codes exactly those in
// now: it raises what is there and resolves what is not. It serves components
// that list their trouble instead of announcing it. Whatever codes of now are
// not among codes is raised too, but never resolved.
func (b *Board) Reconcile(group string, codes []Code, now []Condition) {
	stands := make(map[key]bool, len(now))
	for _, c := range now {
		c.Group = group
		stands[key{c.Code, group, c.Subject}] = true
		b.Raise(c)
	}
	b.mu.Lock()
	var gone []key
	for k := range b.now {
		if k.group == group && slices.Contains(codes, k.code) && !stands[k] {
			gone = append(gone, k)
		}
	}
	b.mu.Unlock()
	for _, k := range gone {
		b.Resolve(k.code, k.group, k.subject)
	}
}

// List returns what stands now: the most severe first, then the oldest.
func (b *Board) List() []Condition {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.list()
}

func (b *Board) list() []Condition {
	list := make([]Condition, 0, len(b.now))
	for _, s := range b.now {
		list = append(list, b.dated(s))
	}
	slices.SortFunc(list, func(x, y Condition) int {
		return cmp.Or(cmp.Compare(y.Severity.Rank(), x.Severity.Rank()), cmp.Compare(y.Age, x.Age),
			cmp.Compare(x.Code, y.Code), cmp.Compare(x.Group, y.Group), cmp.Compare(x.Subject, y.Subject))
	})
	return list
}

// Changes returns what happened after change number after (0 = all that is
// remembered), oldest first, and a channel that is closed at the next change.
func (b *Board) Changes(after uint64) ([]Change, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changes(after), b.more
}

func (b *Board) changes(after uint64) []Change {
	i, _ := slices.BinarySearchFunc(b.history, after+1, func(c Change, seq uint64) int { return cmp.Compare(c.Seq, seq) })
	return slices.Clone(b.history[i:])
}

// Follow is [Board.Changes] and [Board.List] of one moment: the last of changes has
// led to standing.
func (b *Board) Follow(after uint64) (changes []Change, standing []Condition, more <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changes(after), b.list(), b.more
}

func (b *Board) dated(s *standing) Condition {
	c := s.Condition
	c.Age = b.clock.Mono() - s.since
	c.Since = b.clock.Now().Add(-c.Age)
	return c
}

func (b *Board) record(kind Kind, s *standing) {
	b.seq++
	if len(b.history) == historyLimit {
		b.history = slices.Delete(b.history, 0, historyLimit/4)
	}
	b.history = append(b.history, Change{Seq: b.seq, At: b.clock.Now(), Kind: kind, Condition: b.dated(s)})
	close(b.more)
	b.more = make(chan struct{})
}
