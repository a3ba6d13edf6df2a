package apply

import "repld/change"

// From returns the position of the log from which the applier goes on; false if a
// base must come first. The log may be cut back to it, but not further.
func (a *Applier) From() (change.LogPosition, bool) {
	if a.NeedsSeed() {
		return change.LogPosition{}, false
	}
	p, err := a.replayed()
	return p.end, err == nil
}
