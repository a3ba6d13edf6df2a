package role

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"repld/change"
)

func TestStoredSurvives(t *testing.T) {
	full := Stored{
		Self: "a", Peer: "b", Designated: Primary, Epoch: Epoch{3, "a", "three"}, Learned: Epoch{4, "b", "four"}, Promised: 5,
		Role: Down, Cause: Granted, Grant: Grant{Base: Epoch{3, "a", "three"}, Next: Epoch{4, "b", "four"}},
		Plan: Progress{Kind: Cutover, ID: "four", Target: Epoch{4, "b", "four"}, Proof: ByStepDown, Step: StepTaken, Asked: true, Failure: "x: y\n# z"},
		Seen: Seen{Epoch: Epoch{3, "a", "three"}, Role: Standby, At: time.Date(2026, 11, 21, 8, 0, 0, 123456789, time.UTC)},
	}
	for _, s := range []Stored{full, NewState("a", Secondary), LostState("a", "b", Primary, 7),
		{Self: "a", Designated: Primary, Epoch: Epoch{1, "a", "0123456789012345"}, Role: Production, Alone: true, Proof: ByFence}} {
		data, err := Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		found, err := Unmarshal(data)
		if err != nil || found != s {
			t.Errorf("found\n%+v, %v\nwant\n%+v\nfrom\n%s", found, err, s, data)
		}
	}
}

// A state that can't be read is lost; one of a newer version is not.
func TestStoredIsRefused(t *testing.T) {
	for text, want := range map[string]error{
		"":                            ErrDamaged,
		"\x00\x00\x00":                ErrDamaged,
		"format: 2\nstate: {new: 1}":  ErrFormat,
		"format: 1":                   ErrDamaged,
		"format: 1\nstate: {self: a}": ErrDamaged,
		"format: 1\nstate: {self: a, designated: primary, role: king}":                                       ErrDamaged,
		"format: 1\nstate: {self: a, designated: primary, role: production}":                                 ErrDamaged, // without an epoch
		"format: 1\nstate: {self: a, designated: primary, role: down, cause: granted}":                       ErrDamaged,
		"format: 1\nstate: {self: a, designated: primary, role: down, cause: new, other: 1}":                 ErrDamaged,
		"format: 1\nstate: {self: a, designated: primary, role: down, cause: new, plan: {kind: x, step: y}}": ErrDamaged,
	} {
		if _, err := Unmarshal([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%q: found %v, want %v", text, err, want)
		}
	}
}

// Lost state is never epoch 1.
func TestLostStateNeverServesByItself(t *testing.T) {
	s := State{Stored: LostState("a", "b", Primary, 3)}
	for _, e := range []Event{Start{Session: "a1"}, PatienceOver{}, Paired{Peer: "b"}, Hello{From: "b", Session: "b1", Seq: 1, For: "a1", Role: Down, Stored: Down, Cause: Lost}} {
		s, _, _ = Next(s, e)
		if s.Role() != Down {
			t.Fatalf("%T makes it %s", e, s.describe())
		}
	}
	s, _, err := Next(s, Order{Command: DoFailover, ID: "o", PeerIsDown: true})
	if err != nil || s.Plan.Target.Number != 4 {
		t.Errorf("found %+v, %v; want a failover to epoch 4, above the barriers that it holds", s.Plan, err)
	}
}

func TestSwitch(t *testing.T) {
	serving := State{Stored: Stored{Self: "a", Peer: "b", Designated: Secondary, Epoch: two, Role: Production}}
	alone := serving
	alone.Alone = true
	standby := State{Stored: Stored{Self: "a", Peer: "b", Designated: Secondary, Epoch: one, Role: Standby}}
	down := State{Stored: Stored{Self: "a", Peer: "b", Designated: Primary, Epoch: one, Role: Down, Cause: Fenced}}
	for _, c := range []struct {
		s       State
		target  Role
		mode    Mode
		want    Command
		nothing bool
		refused bool
	}{
		{serving, Standby, Emergency, DoStepDown, false, false}, {down, Standby, Emergency, DoStepDown, true, false},
		{serving, Standby, Normal, DoCutover, false, false}, {standby, Standby, Normal, "", true, false},
		{down, Standby, Recovery, DoRejoin, false, false},
		{standby, Production, Emergency, DoFailover, false, false}, {serving, Production, Emergency, "", true, false},
		{standby, Production, Normal, DoCutover, false, false}, {serving, Production, Normal, "", true, false},
		{serving, Production, Recovery, "", true, false}, {alone, Production, Recovery, "", false, true},
		{standby, Production, Recovery, "", false, true}, {standby, Down, Normal, "", false, true}, {standby, Production, "sudden", "", false, true},
	} {
		o, nothing, err := Switch(c.s, c.target, c.mode, true)
		if o.Command != c.want || nothing != c.nothing || (err != nil) != c.refused {
			t.Errorf("%s, switch to %s, %s: found %q, %v, %v", c.s.describe(), c.target, c.mode, o.Command, nothing, err)
		}
	}
}

func TestLedger(t *testing.T) {
	age := 90 * time.Second
	l := LedgerOf(State{Stored: Stored{Epoch: one}}, two, ByClaim, Facts{
		Now: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC), Node: "megadeth", Peer: "slayer", HeardAge: &age,
		Groups: []GroupFacts{{
			Group: "sounz", Complete: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: 810}, CutAt: time.Date(2026, 11, 21, 7, 59, 0, 0, time.UTC)},
			Age: &age, Captured: change.BarrierID{Epoch: 1, Seq: 812}, Files: []string{"data/b", "data/a", "data/b"}, Unnamed: 3, Bytes: 4096, Tail: 100,
			Database: []DatabaseLedger{{Name: "shop", Engine: "postgres", Position: "0/1A", Bytes: 77, Paired: true},
				{Name: "end", Engine: "redis", Position: "950", Received: "950", Barrier: "900", Past: 50},
				{Name: "ahead", Engine: "postgres", Position: "0/2B", Received: "0/3C", Barrier: "0/2A", Past: 1, Bytes: 17},
				{Name: "new", Engine: "mysql", Position: "7:4", Received: "7:9", Bytes: 5},
				{Name: "unseeded", Engine: "mysql"}},
		}, {Group: "empty"}},
	})
	want := `failover of megadeth to epoch 2
  the old primary slayer was last heard 1m30s ago; what it changed since then is not known here
  group sounz
    promoted at barrier 1-810, cut 2026-11-21T07:59:00Z (1m30s ago)
    given up: 2 barriers up to 1-812
    given up: changes of 5 files, 4,096 bytes
      "data/a"
      "data/b"
      and 3 more
    kept aside: 100 bytes that were received beyond the barrier
    database shop (postgres): promoted at 0/1A, 77 bytes of its log given up
    database end (redis): promoted at the end of what was received, 950, 50 bytes past the barrier's 900; files and database are not paired
    database ahead (postgres): promoted at 0/2B, 1 byte past the barrier's 0/2A; files and database are not paired, 17 bytes of its log given up
    database new (mysql): promoted at 7:4, of which the barrier has nothing; files and database are not paired, 5 bytes of its log given up
    database unseeded (mysql): no replica: it can't be promoted
  group empty
    no complete barrier: this group can't be promoted
`
	if found := l.Text(); found != want {
		t.Errorf("found\n%s\nwant\n%s", found, want)
	}
	unnamed := Ledger{Groups: []GroupLedger{{Group: "sounz", Barrier: change.BarrierID{Epoch: 1, Seq: 810}, FileCount: 3}}}
	if found := unnamed.Text(); !strings.Contains(found, "changes of 3 files") || strings.Contains(found, "more") {
		t.Errorf("three files of which no name is known: %s", found)
	}
	for by, want := range map[Withholding]string{ByPause: "paused: `replctl resume` before", ByHalt: "halted: `replctl resume --accept` before"} {
		l := LedgerOf(State{}, two, ByClaim, Facts{Groups: []GroupFacts{{Group: "sounz",
			Complete: change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: 810}}, Withheld: change.BarrierID{Epoch: 1, Seq: 812}, WithheldBy: by}}})
		if found := l.Text(); !strings.Contains(found, "barrier 1-812 was received and is given up, since applying is "+want) || l.Nothing() {
			t.Errorf("withheld by %s: %s", by, found)
		}
	}
	none := Ledger{Groups: []GroupLedger{{Group: "sounz", Barrier: change.BarrierID{Epoch: 1, Seq: 810}, Bytes: 7}}}
	if found := none.Text(); !strings.Contains(found, "given up: 7 bytes of changes, of files that are not known here\n") {
		t.Errorf("seven bytes of which no file is known: %s", found)
	}
	data, err := l.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var back Ledger
	if err := json.Unmarshal(data, &back); err != nil || back.Groups[0].FileCount != 5 || back.Groups[0].Barriers != 2 || back.Format != LedgerFormat || l.Nothing() {
		t.Errorf("found %+v, %v", back, err)
	}
	if !strings.Contains(string(data), `"age_seconds": 90`) || strings.Contains(string(data), "null") {
		t.Errorf("found %s", data)
	}
}

// --dry-run shows every plan with its final step, and begins nothing.
func TestRender(t *testing.T) {
	for _, p := range plans {
		text := p.Render("slayer", "megadeth")
		if !strings.HasPrefix(text, string(p.Kind)+" on slayer: ") || p.Kind != Return && !strings.Contains(text, "no way back") {
			t.Errorf("found\n%s", text)
		}
		t.Log("\n" + text)
	}
}
