package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"repld/dblog"
	"repld/dblog/dblogtest"
	"repld/health"
)

// TestPrivilegeToPromote comes and goes while the connection stays. Without it a promotion
// says so, and doesn't wait; a server that somebody promoted by hand is promoted.
func TestPrivilegeToPromote(t *testing.T) {
	t.Parallel()
	const grant = "GRANT EXECUTE ON FUNCTION pg_promote"
	p := newPair(t, func(o *GateOptions) { o.ReplicaDSN = strings.Replace(o.ReplicaDSN, "user=postgres", "user=keeper", 1) })
	p.primary.Exec("CREATE ROLE keeper LOGIN REPLICATION IN ROLE pg_monitor")
	p.Barrier()
	lacks := func() bool {
		err := p.gate.Check(t.Context())
		return err != nil && strings.Contains(err.Error(), grant)
	}
	sound := func() bool { return p.gate.Check(t.Context()) == nil && len(p.gate.Health()) == 0 }
	eventually(t, "the privilege lacks", lacks)
	wantCondition(t, p.gate.Health(), health.DatabaseSetup)
	connections := p.gate.admin.made

	p.primary.Exec(grant + " TO keeper")
	p.Barrier()
	eventually(t, "the condition goes", sound)
	p.primary.Exec("REVOKE EXECUTE ON FUNCTION pg_promote FROM keeper")
	p.Barrier()
	eventually(t, "the privilege lacks again", lacks)
	if made := p.gate.admin.made; made != connections {
		t.Fatalf("the connection was made anew (%d, then %d)", connections, made)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for name, promote := range map[string]func(context.Context) (dblog.Promotion, error){"at the gate": p.gate.Promote, "at the end": p.gate.PromoteAtEnd} {
		if _, err := promote(ctx); err == nil || !strings.Contains(err.Error(), grant) || ctx.Err() != nil {
			t.Fatalf("promotion %s: %v, want that the privilege lacks", name, err)
		}
	}

	p.primary.Exec(grant + " TO keeper")
	p.Barrier()
	eventually(t, "the condition goes", sound)
	p.holding.Stop() // the replica can't get what it is waited for
	p.holding = dblogtest.Start(func(ctx context.Context) error { <-ctx.Done(); return nil })
	point, err := p.Cut()
	must(t, err)
	p.Arrived(point)
	must(t, p.Break())
	at := p.gate.Position()
	if !at.Before(point.Position) {
		t.Fatalf("the gate is at %s, the spool has no more", show(at))
	}
	type answer struct {
		promotion dblog.Promotion
		err       error
	}
	done := make(chan answer, 1)
	go func() {
		promotion, err := p.gate.PromoteAtEnd(ctx)
		done <- answer{promotion, err}
	}()
	eventually(t, "the end is let go", func() bool { return at.Before(p.gate.Position()) })
	p.replica.Exec("SELECT pg_promote()")
	a := <-done
	if a.err != nil || a.promotion.Chapter != 2 || a.promotion.At != at {
		t.Fatalf("one that was promoted by hand: %+v, %v; the gate was at %s", a.promotion, a.err, show(at))
	}
}

// TestRefusedLoginIsNotDown forgets that the server was stopping once it refuses a login.
func TestRefusedLoginIsNotDown(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	must(t, p.gate.Check(t.Context()))
	p.gate.trouble.Put(health.DatabaseDown, "the database is starting or stopping")
	p.gate.admin.config.User = "nobody_such"
	p.replica.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'repld%' AND backend_type = 'client backend' AND pid <> pg_backend_pid()")
	if err := p.gate.Check(t.Context()); err == nil {
		t.Fatal("nobody was let in")
	}
	eventually(t, "the login is refused, and the server isn't down", func() bool {
		err := p.gate.Check(t.Context())
		list := p.gate.Health()
		return err != nil && len(list) == 1 && list[0].Code == health.DatabaseSetup
	})
	if text := fmt.Sprint(p.gate.Health()); !strings.Contains(text, "nobody_such") {
		t.Errorf("conditions %s", text)
	}
}
