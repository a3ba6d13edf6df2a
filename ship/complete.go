package ship

import (
	"repld/change"
)

// Complete reports whether every database's spool here holds the stream up to where a
// barrier has it: only then may the barrier be applied. It is for apply.Options.Complete.
func (r *Receiver) Complete(c change.Certificate) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.complete(&c)
}

// complete is Complete with r.mu held.
func (r *Receiver) complete(c *change.Certificate) bool {
	for i := range c.Databases {
		q := r.database(c.Databases[i].Name)
		if q == nil {
			return false
		}
		if ok, _ := q.holds(c.Databases[i].Position, c.ID); !ok {
			return false
		}
	}
	return true
}

// Lacking returns the databases for which the newest barrier in the log waits, none if
// that was received.
func (r *Receiver) Lacking() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		return nil
	}
	newest := &r.waiting[len(r.waiting)-1]
	for i := range newest.Databases {
		d := &newest.Databases[i]
		q := r.database(d.Name)
		if q == nil {
			names = append(names, d.Name)
		} else if ok, _ := q.holds(d.Position, newest.ID); !ok {
			names = append(names, d.Name)
		}
	}
	return names
}

// spoolsLack reports whether a barrier in the log waits for spools that may still get
// what it needs.
func (r *Receiver) spoolsLack() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.waiting {
		if !r.hopeless(&r.waiting[i].Certificate) {
			return true
		}
	}
	return false
}

// lost returns the newest barrier in the log that can't be completed any more, zero if
// there is none: only a later one helps.
func (r *Receiver) lost() change.BarrierID {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.waiting) - 1; i >= 0; i-- {
		if r.hopeless(&r.waiting[i].Certificate) {
			return r.waiting[i].ID
		}
	}
	return change.BarrierID{}
}

// hopeless reports whether a barrier can't be completed any more; with r.mu held.
func (r *Receiver) hopeless(c *change.Certificate) bool {
	for i := range c.Databases {
		if q := r.database(c.Databases[i].Name); q != nil {
			if _, hopeless := q.holds(c.Databases[i].Position, c.ID); hopeless {
				return true
			}
		}
	}
	return false
}

// trust notes, before a session begins, up to which barrier in the log each spool is
// there. A barrier that comes later only counts with the stream that comes with it: the
// primary's database may be another one by now, at positions that this spool holds of
// the former.
func (r *Receiver) trust(hasBase bool) error {
	if !hasBase {
		r.distrust(0)
		return nil
	}
	if len(r.spools) == 0 {
		return nil
	}
	newest := make(map[*inSpool]trusted)
	_, err := r.barriers(r.unapplied(), func(b *change.Barrier, end uint64) {
		for _, d := range b.Databases {
			if q := r.database(d.Name); q != nil {
				if ok, _ := q.holds(d.Position, b.ID); ok {
					newest[q] = trusted{b.ID, end}
				}
			}
		}
	})
	if err != nil {
		return err
	}
	for q, t := range newest {
		q.mu.Lock()
		q.trusted = t
		q.mu.Unlock()
	}
	return nil
}

// distrust forgets what trust has found behind a log offset: others may come with the
// same numbers.
func (r *Receiver) distrust(offset uint64) {
	for _, q := range r.spools {
		q.distrust(offset)
	}
}

// trusted is a barrier that came in an earlier session, with the spool's part of it.
type trusted struct {
	id  change.BarrierID
	end uint64 // log offset behind it
}

func (q *inSpool) distrust(offset uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.trusted.end > offset {
		q.trusted = trusted{}
	}
}
