package alert

import (
	"cmp"
	"slices"

	"repld/health"
)

// pastLimit bounds how many conditions a ledger remembers that were raised or
// resolved since the last message.
const pastLimit = 1024

// newsLimit bounds how many news wait for a message.
const newsLimit = 16

// key identifies a condition, as the board does.
type key struct {
	code           health.Code
	group, subject string
}

func keyOf(c *health.Condition) key { return key{c.Code, c.Group, c.Subject} }

// ledger is what one sink was told and what happened since. It does nothing but
// compare.
type ledger struct {
	sink     string // its own alert-failed is nothing to tell it
	told     map[key]told
	past     map[key]*past
	news     []health.Condition // that happened since the last message and never stood
	unlisted int                // changes since the last message that past and news had no place for
}

// told is a condition as the sink was told last.
type told struct {
	health.Condition
	earlier bool // by a process before this one; not seen in this one yet
}

// past is what happened to a condition since the last message.
type past struct {
	raised, resolved int
	last             health.Condition
}

func newLedger(sink string, earlier []health.Condition) *ledger {
	l := &ledger{sink: sink, told: make(map[key]told), past: make(map[key]*past)}
	for _, c := range earlier {
		l.told[keyOf(&c)] = told{Condition: c, earlier: true}
	}
	return l
}

func (l *ledger) own(k key) bool {
	return k.code == health.AlertFailed && k.subject == l.sink
}

// absorb takes note of what happened on the board; lost changes are gone from its
// memory.
func (l *ledger) absorb(changes []health.Change, lost uint64) {
	l.unlisted += int(lost)
	for _, c := range changes {
		k := keyOf(&c.Condition)
		if c.Kind == health.Updated || l.own(k) {
			continue
		}
		if c.Kind == health.Happened {
			if len(l.news) == newsLimit {
				l.unlisted++
				continue
			}
			l.news = append(l.news, c.Condition)
			continue
		}
		p := l.past[k]
		if p == nil {
			if len(l.past) == pastLimit {
				l.unlisted++
				continue
			}
			p = &past{}
			l.past[k] = p
		}
		p.last = c.Condition
		if c.Kind == health.Raised {
			p.raised++
		} else {
			p.resolved++
		}
	}
}

// unsettled reports whether the ledger has conditions of an earlier process that
// nobody has raised in this one.
func (l *ledger) unsettled(standing []health.Condition) bool {
	stands := make(map[key]bool, len(standing))
	for i := range standing {
		stands[keyOf(&standing[i])] = true
	}
	for k, t := range l.told {
		if t.earlier && !stands[k] {
			return true
		}
	}
	return false
}

// diff is what the sink doesn't know, the gravest first. Unless settled, conditions
// of an earlier process may still come back.
func (l *ledger) diff(standing []health.Condition, settled bool) []Change {
	var changes []Change
	for _, c := range l.news {
		changes = append(changes, Change{Kind: health.Happened, Condition: c})
	}
	stands := make(map[key]bool, len(standing))
	for _, c := range standing {
		k := keyOf(&c)
		if l.own(k) {
			continue
		}
		stands[k] = true
		if change, ok := l.standingChange(k, c); ok {
			changes = append(changes, change)
		}
	}
	for k, t := range l.told {
		p := l.past[k]
		if stands[k] || t.earlier && !settled && p == nil {
			continue
		}
		change := Change{Kind: health.Resolved, Condition: t.Condition}
		if p != nil {
			change.Condition, change.Stood, change.Times = p.last, p.last.Age.Seconds(), p.raised
		}
		changes = append(changes, change)
	}
	for k, p := range l.past {
		if _, known := l.told[k]; known || stands[k] || p.resolved == 0 {
			continue
		}
		changes = append(changes, Change{Kind: health.Resolved, Condition: p.last, Stood: p.last.Age.Seconds(), Times: p.raised, Untold: true})
	}
	for i := range changes {
		if changes[i].Kind == health.Resolved {
			changes[i].Hint = "" // there is nothing to do any more
		}
	}
	slices.SortFunc(changes, func(x, y Change) int {
		return cmp.Or(cmp.Compare(rank(x.Kind), rank(y.Kind)), cmp.Compare(y.Severity.Rank(), x.Severity.Rank()),
			cmp.Compare(x.Code, y.Code), cmp.Compare(x.Group, y.Group), cmp.Compare(x.Subject, y.Subject))
	})
	return changes
}

// standingChange compares a condition that stands.
func (l *ledger) standingChange(k key, c health.Condition) (Change, bool) {
	t, known := l.told[k]
	p := l.past[k]
	switch {
	case !known:
		change := Change{Kind: health.Raised, Condition: c}
		if p != nil && p.raised > 1 {
			change.Times = p.raised
		}
		return change, true
	case p != nil && p.resolved > 0:
		return Change{Kind: health.Updated, Condition: c, Times: p.raised}, true
	case t.Severity != c.Severity:
		return Change{Kind: health.Updated, Condition: c}, true
	}
	return Change{}, false
}

func rank(k health.Kind) int {
	switch k {
	case health.Happened:
		return 0
	case health.Raised:
		return 1
	case health.Updated:
		return 2
	}
	return 3
}

// without takes what nobody is to be alarmed of out of what stands and what has come and
// gone. What the sink was told before stays, so that it is told the end of it.
func (l *ledger) without(held func(health.Code) bool, standing []health.Condition) []health.Condition {
	hidden := func(k key) bool {
		_, known := l.told[k]
		return !known && held(k.code)
	}
	for k := range l.past {
		if hidden(k) {
			delete(l.past, k)
		}
	}
	return slices.DeleteFunc(standing, func(c health.Condition) bool { return hidden(keyOf(&c)) })
}

// commit says that the sink was told everything up to what stands here, except what
// may still come back.
func (l *ledger) commit(standing []health.Condition, settled bool) {
	now := make(map[key]told, len(standing))
	for k, t := range l.told {
		if t.earlier && !settled && l.past[k] == nil {
			now[k] = t
		}
	}
	for _, c := range standing {
		if k := keyOf(&c); !l.own(k) {
			now[k] = told{Condition: c}
		}
	}
	l.told, l.past, l.news, l.unlisted = now, make(map[key]*past), nil, 0
}

// conditions lists what the sink was told stands.
func (l *ledger) conditions() []health.Condition {
	list := make([]health.Condition, 0, len(l.told))
	for _, t := range l.told {
		list = append(list, t.Condition)
	}
	slices.SortFunc(list, func(x, y health.Condition) int {
		return cmp.Or(cmp.Compare(x.Code, y.Code), cmp.Compare(x.Group, y.Group), cmp.Compare(x.Subject, y.Subject))
	})
	return list
}
