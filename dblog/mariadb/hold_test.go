package mariadb

import "testing"

// TestReplicaIsHeldAtTheBarrier has the replica at exactly what was committed before the
// barrier, and what comes after it stays away.
func TestReplicaIsHeldAtTheBarrier(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.primary.Exec("CREATE DATABASE d; CREATE TABLE d.a (n int PRIMARY KEY)")
	for i := range 3 {
		p.primary.Exec("INSERT INTO d.a VALUES (10 * " + string(rune('0'+i)) + ")")
	}
	point := p.barrier()
	p.primary.Exec("INSERT INTO d.a VALUES (99)")
	later, err := p.cut()
	must(t, err)
	must(t, p.spool.WaitDurable(t.Context(), later.Position))
	if got := p.replica.Value("SELECT count(*) FROM d.a"); got != "3" {
		t.Fatalf("the replica has %s rows at %s, want 3", got, show(point.Position))
	}
	p.advance(later)
	if got := p.replica.Value("SELECT count(*) FROM d.a"); got != "4" {
		t.Fatalf("the replica has %s rows, want 4", got)
	}
	must(t, p.gate.Check(t.Context()))
}

// TestAUserWithTheDocumentedPrivileges does all that there is to do.
func TestAUserWithTheDocumentedPrivileges(t *testing.T) {
	t.Parallel()
	p := unseededAs(t, `repld:it's "a" \secret`)
	p.primary.Exec("CREATE DATABASE d; CREATE TABLE d.a (n int PRIMARY KEY)")
	p.seed()
	p.primary.Exec("INSERT INTO d.a VALUES (1)")
	p.barrier()
	must(t, p.source.Check(t.Context()))
	must(t, p.gate.Check(t.Context()))
	_, err := p.gate.Promote(t.Context())
	must(t, err)
	p.replica.Exec("INSERT INTO d.a VALUES (2)")
}
