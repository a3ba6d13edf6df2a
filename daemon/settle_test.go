package daemon

import (
	"slices"
	"testing"

	"repld/health"
)

// TestFormerPrimarySettles: that a former primary's server is down isn't told while it
// becomes a replica, nor for a while behind that; what stays is.
func TestFormerPrimarySettles(t *testing.T) {
	clock := &handClock{mono: settleWithin}
	r := &replica{clock: clock, gate: checkedGate{tells: []health.Condition{{Code: health.DatabaseSetup}, {Code: health.DatabaseDown}}}}
	told := func(when string, want ...health.Code) {
		t.Helper()
		var codes []health.Code
		for _, c := range r.health() {
			codes = append(codes, c.Code)
		}
		if !slices.Equal(codes, want) {
			t.Errorf("%s it tells %v, want %v", when, codes, want)
		}
	}
	r.joined() // it was none before
	told("as a replica since long", health.DatabaseSetup, health.DatabaseDown)
	r.joining.Store(true)
	told("while it becomes a replica")
	r.joined()
	told("when it has just become one", health.DatabaseSetup)
	clock.mono += settleWithin - 1
	told("before its time is over", health.DatabaseSetup)
	clock.mono++
	told("once its time is over", health.DatabaseSetup, health.DatabaseDown)
}
