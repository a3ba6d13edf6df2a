package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"repld/control"
	"repld/role"
	"repld/wire/wiretest"
)

// TestFailoverWithoutTheData: with a full journal the newest barrier names its data only,
// which the standby then asks for. A primary that ends before it has sent all of that
// takes the barrier along: the standby serves with the one before, and the ledger says so.
func TestFailoverWithoutTheData(t *testing.T) {
	t.Parallel()
	s := newServices(t)
	s.start(1, "journal: {limit: 8MiB}", "guard: {changed: 100%}")
	from, to := s.sides("c")
	write(t, filepath.Join(from, "before"), "one")
	s.current()
	s.standby.must("--group", "two", "pause")
	for i := range 4 {
		write(t, fmt.Sprintf("%s/large%d", from, i), noise(t, uint64(i), 12<<20))
		s.primary.ctl("--group", "two", "barrier", "--timeout", "3s")
	}
	s.primary.unwell("journal-full", "")
	s.relay.Set(wiretest.RelayOptions{Bandwidth: 400_000}) // a minute and a half for the rest
	s.standby.must("--group", "two", "resume")
	var g *control.Group
	poll(t, "the sum of what was written is received", func() (err error) {
		if g, err = s.standby.group("two"); err != nil {
			return err
		}
		if b := g.Barriers; b.Received == nil || b.Applied == nil || b.Received.ID.Compare(b.Applied.ID) <= 0 {
			return fmt.Errorf("received %+v, applied %+v", b.Received, b.Applied)
		}
		return nil
	})
	s.primary.kill()
	s.standby.must("failover", "--peer-is-down", "--yes")
	if status, err := s.standby.status(); err != nil || status.Role != control.RoleProduction {
		t.Errorf("%+v, %v", status, err)
	}
	names, err := filepath.Glob(to + "/*")
	if data, e := os.ReadFile(filepath.Join(to, "before")); err != nil || len(names) != 1 || e != nil || string(data) != "one" {
		t.Errorf("it serves %q, with %q; %v, %v", names, data, err, e)
	}
	var l role.Ledger
	text, err := os.ReadFile(filepath.Join(s.standby.state, "failovers", "2.json"))
	if err == nil {
		err = json.Unmarshal(text, &l)
	}
	i := slices.IndexFunc(l.Groups, func(g role.GroupLedger) bool { return g.Group == "two" })
	if err != nil || i < 0 || l.Groups[i].Barrier != g.Barriers.Applied.ID || l.Groups[i].Captured.Compare(g.Barriers.Received.ID) < 0 || l.Groups[i].FileCount == 0 {
		t.Errorf("applied %v, received %v; the ledger: %v\n%s", g.Barriers.Applied.ID, g.Barriers.Received.ID, err, text)
	}
}
