package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"repld/change"
	"repld/config"
	"repld/control"
	"repld/dblog"
	"repld/health"
)

// checkedGate is a gate that has looked at its replica.
type checkedGate struct {
	placedGate
	found error
	tells []health.Condition
}

func (g checkedGate) Check(context.Context) error { return g.found }

func (g checkedGate) Health() []health.Condition { return g.tells }

// TestReplicaThatCannotBePromoted refuses a change of roles, in the words of the condition.
func TestReplicaThatCannotBePromoted(t *testing.T) {
	follows := placedGate{gate: 50, replayed: 50, connected: true}
	lacks := health.Condition{Code: health.DatabaseSetup, Severity: health.Critical, Text: "database main: GRANT it", Hint: "do that"}
	full := health.Condition{Code: health.SpoolFull, Severity: health.Critical, Text: "database main: full"}
	for _, c := range []struct {
		gate       checkedGate
		text, hint string
	}{
		{checkedGate{placedGate: follows}, "", ""},
		{checkedGate{placedGate: follows, tells: []health.Condition{full}}, "", ""},
		{checkedGate{placedGate: placedGate{gate: 50, replayed: 50}}, "does not follow", "seed main"},
		{checkedGate{follows, errors.New("no grant"), []health.Condition{full, lacks}}, "database main: GRANT it", "do that"},
		{checkedGate{follows, errors.New("no grant"), nil}, "no grant", "database status"},
	} {
		s := &receiving{replicas: []*replica{{conf: config.Database{Name: "main"}, gate: c.gate}}}
		err := s.databasesReady(t.Context())
		if c.text == "" {
			if err != nil {
				t.Errorf("a sound replica: %v", err)
			}
			continue
		}
		var refused *control.Error
		if !errors.As(err, &refused) || refused.Code != control.ExitRefused || !strings.Contains(refused.Text, c.text) || !strings.Contains(refused.Hint, c.hint) {
			t.Errorf("got %+v, want a refusal with %q and the hint %q", err, c.text, c.hint)
		}
	}
	// One of which nobody can ask that.
	s := &receiving{replicas: []*replica{{conf: config.Database{Name: "main"}, gate: follows}}}
	if err := s.databasesReady(t.Context()); err != nil {
		t.Error(err)
	}
}

// deniedGate is denied the promotion once, and waits for ever then.
type deniedGate struct {
	placedGate
	asked int
}

func (g *deniedGate) PromoteAtEnd(ctx context.Context) (dblog.Promotion, error) {
	if g.asked++; g.asked == 1 {
		return dblog.Promotion{}, errors.New("permission denied")
	}
	<-ctx.Done()
	return dblog.Promotion{}, ctx.Err()
}

// TestPromotionTellsItsCause: that the time is over isn't why.
func TestPromotionTellsItsCause(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	s := &receiving{member: &member{group: &group{node: &node{clock: change.SystemClock()}}}}
	g := &deniedGate{placedGate: placedGate{gate: 50}}
	r := &replica{conf: config.Database{Name: "main", Engine: "exec"}, gate: g}
	err := r.promote(ctx, s, change.Certificate{}, true)
	if err == nil || !strings.Contains(err.Error(), "permission denied") || g.asked < 2 {
		t.Errorf("asked %d times: %v, want that permission is denied", g.asked, err)
	}
}
