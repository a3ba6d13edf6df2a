package health

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

type fakeClock struct {
	wall time.Time
	mono time.Duration
}

func (c *fakeClock) Now() time.Time      { return c.wall }
func (c *fakeClock) Mono() time.Duration { return c.mono }

func TestBoardKeepsTheBeginning(t *testing.T) {
	clock := &fakeClock{wall: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)}
	b := NewBoard(clock)
	if !b.Raise(Condition{Code: BarrierLate, Group: "g", Text: "no barrier for 12 s"}) {
		t.Fatal("a new condition did not change the board")
	}
	clock.mono += 5 * time.Second
	clock.wall = clock.wall.Add(time.Hour) // an operator set the clock
	if !b.Raise(Condition{Code: BarrierLate, Group: "g", Text: "no barrier for 17 s"}) {
		t.Fatal("another text did not change the board")
	}
	if b.Raise(Condition{Code: BarrierLate, Group: "g", Text: "no barrier for 17 s"}) {
		t.Fatal("the same again changed the board")
	}
	got := b.List()
	if len(got) != 1 || got[0].Age != 5*time.Second || !got[0].Since.Equal(clock.wall.Add(-5*time.Second)) {
		t.Fatalf("list = %+v", got)
	}
	if got[0].Severity != Warning || got[0].Hint == "" {
		t.Fatalf("severity %q, hint %q", got[0].Severity, got[0].Hint)
	}
	if !b.Resolve(BarrierLate, "g", "") || b.Resolve(BarrierLate, "g", "") {
		t.Fatal("resolve")
	}
	if len(b.List()) != 0 {
		t.Fatal("still listed")
	}
}

func TestChangesFollow(t *testing.T) {
	b := NewBoard(nil)
	first, more := b.Changes(0)
	if len(first) != 0 {
		t.Fatal("a new board has a history")
	}
	b.Raise(Condition{Code: LinkDown, Text: "x"})
	select {
	case <-more:
	default:
		t.Fatal("a change was not announced")
	}
	b.Resolve(LinkDown, "", "")
	all, _ := b.Changes(0)
	if len(all) != 2 || all[0].Kind != Raised || all[1].Kind != Resolved || all[1].Seq != 2 {
		t.Fatalf("changes = %+v", all)
	}
	if rest, _ := b.Changes(1); len(rest) != 1 || rest[0].Seq != 2 {
		t.Fatalf("changes after 1 = %+v", rest)
	}
	for range 3 * historyLimit {
		b.Raise(Condition{Code: LinkDown, Text: "x"})
		b.Resolve(LinkDown, "", "")
	}
	if all, _ = b.Changes(0); len(all) > historyLimit || all[len(all)-1].Seq != 2+6*historyLimit {
		t.Fatalf("%d changes kept, the last is %d", len(all), all[len(all)-1].Seq)
	}
}

func TestReconcile(t *testing.T) {
	b := NewBoard(nil)
	b.Raise(Condition{Code: LinkDown, Group: "g", Text: "stays"})
	b.Raise(Condition{Code: WatchLimit, Group: "g", Subject: "old", Text: "goes"})
	b.Reconcile("g", []Code{WatchLimit, WatchOverflow}, []Condition{{Code: WatchLimit, Subject: "new", Text: "comes"}})
	var got []string
	for _, c := range b.List() {
		got = append(got, c.Text)
	}
	if strings.Join(got, " ") != "stays comes" {
		t.Fatalf("conditions = %q", got)
	}
}

func TestEveryCodeIsDescribed(t *testing.T) {
	if len(Codes()) != len(described) {
		t.Fatalf("%d codes, %d descriptions", len(Codes()), len(described))
	}
	for _, c := range Codes() {
		if s, hint := Describe(c); s.Rank() == 0 || hint == "" {
			t.Errorf("%s: severity %q, hint %q", c, s, hint)
		}
	}
	if s, _ := Describe("from-the-future"); s != Warning {
		t.Errorf("an unknown code is %q", s)
	}
}

func TestConditionJSON(t *testing.T) {
	out, err := json.Marshal(Condition{Code: BarrierLate, Severity: Warning, Since: time.Unix(0, 1).UTC(), Text: "t", Age: 5})
	want := `{"code":"barrier-late","severity":"warning","since":"1970-01-01T00:00:00.000000001Z","text":"t"}`
	if err != nil || string(out) != want {
		t.Fatalf("got %s, %v", out, err)
	}
}

func TestFollow(t *testing.T) {
	b := NewBoard(nil)
	b.Raise(Condition{Code: LinkDown, Text: "x"})
	b.Raise(Condition{Code: DiskLow, Text: "y"})
	b.Resolve(LinkDown, "", "")
	changes, standing, more := b.Follow(1)
	if len(changes) != 2 || changes[1].Kind != Resolved || len(standing) != 1 || standing[0].Code != DiskLow {
		t.Fatalf("changes %+v, standing %+v", changes, standing)
	}
	b.Resolve(DiskLow, "", "")
	select {
	case <-more:
	default:
		t.Fatal("a change was not announced")
	}
}
