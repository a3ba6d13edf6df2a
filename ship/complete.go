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
	trusted := c.ID.Compare(r.trusted) <= 0
	for i := range c.Databases {
		q := r.database(c.Databases[i].Name)
		if q == nil {
			return false
		}
		if ok, _ := q.holds(c.Databases[i].Position, trusted); !ok {
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
		} else if ok, _ := q.holds(d.Position, newest.ID.Compare(r.trusted) <= 0); !ok {
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

// hopeless reports whether a barrier can't be completed any more; with r.mu held.
func (r *Receiver) hopeless(c *change.Certificate) bool {
	for i := range c.Databases {
		if q := r.database(c.Databases[i].Name); q != nil {
			if _, hopeless := q.holds(c.Databases[i].Position, false); hopeless {
				return true
			}
		}
	}
	return false
}

// trust notes, before a session begins, up to which barrier the log and the spools are
// complete. A barrier that comes later only counts with the stream that comes with it:
// the primary's database may be another one by now, at positions that this spool holds
// of the former.
func (r *Receiver) trust(hasBase bool) error {
	at, ok := r.opts.Applier.Base()
	if !hasBase || !ok {
		r.distrust()
		return nil
	}
	if len(r.spools) == 0 {
		return nil
	}
	type found struct {
		change.Certificate
		end uint64
	}
	var newest found
	_, err := r.barriers(at.Offset, func(b *change.Barrier, end uint64) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.complete(&b.Certificate) {
			newest = found{b.Certificate, end}
		}
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if newest.end > 0 {
		r.trusted, r.trustedEnd = newest.ID, newest.end
	}
	return nil
}

// distrust forgets what trust has found.
func (r *Receiver) distrust() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trusted, r.trustedEnd = change.BarrierID{}, 0
}
