package condition

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"repld/dblog"
	"repld/dblog/spool"
	"repld/health"
)

// Set holds conditions. Its zero value is empty; its methods may be called from several
// goroutines.
type Set struct {
	mu    sync.Mutex
	texts map[health.Code]string
}

// Put adds a condition; the text says it without the database's name.
func (s *Set) Put(code health.Code, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.texts == nil {
		s.texts = make(map[health.Code]string)
	}
	s.texts[code] = text
}

// Forget takes conditions back.
func (s *Set) Forget(codes ...health.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range codes {
		delete(s.texts, c)
	}
}

// Note adds the condition of an error, by codeOf, and returns the error. That somebody
// gave up is no condition.
func (s *Set) Note(err error, codeOf func(error) (health.Code, string)) error {
	if err != nil && !errors.Is(err, context.Canceled) {
		s.Put(codeOf(err))
	}
	return err
}

// List returns the conditions of the database of that name, the worst first, and beside
// them that its spool is full; without a spool nil.
func (s *Set) List(name string, sp *spool.Spool) []health.Condition {
	s.mu.Lock()
	texts := maps.Clone(s.texts)
	s.mu.Unlock()
	if sp != nil {
		if bytes := sp.Bytes(); bytes >= sp.Limit() {
			if texts == nil {
				texts = make(map[health.Code]string)
			}
			texts[health.SpoolFull] = fmt.Sprintf("the spool takes %d bytes of %d, and nothing can be freed before the replica goes on", bytes, sp.Limit())
		}
	}
	var list []health.Condition
	for code, text := range texts {
		severity, hint := health.Describe(code)
		list = append(list, health.Condition{
			Code: code, Severity: severity, Subject: name, Text: "database " + name + ": " + text, Hint: hint,
		})
	}
	slices.SortFunc(list, func(a, b health.Condition) int { return b.Severity.Rank() - a.Severity.Rank() })
	return list
}

// CodeOf returns the condition that an error of the vocabulary or of the spool amounts
// to; false if it is another error.
func CodeOf(err error) (health.Code, bool) {
	switch {
	case errors.Is(err, dblog.ErrNeedsSeed), errors.Is(err, spool.ErrParted), errors.Is(err, spool.ErrDamaged):
		return health.DatabaseNeedsSeed, true
	case errors.Is(err, dblog.ErrAhead):
		return health.DatabaseAhead, true
	case errors.Is(err, dblog.ErrBypass):
		return health.DatabaseBypass, true
	case errors.Is(err, spool.ErrFailed):
		return health.SpoolFull, true
	}
	return "", false
}
