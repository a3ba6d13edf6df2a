package journal_test

import (
	"slices"
	"testing"

	"repld/change"
	"repld/journal"
	"repld/journal/journaltest"
)

func TestCommon(t *testing.T) {
	disk := &journaltest.Disk{}
	l := fresh(t, disk, 0, 1)
	a := appendAll(t, l, links(10)...)
	b1 := a
	begin(t, l, 2)
	cut := appendAll(t, l, links(5)...)
	lost := appendAll(t, l, links(5)...)
	if err := l.TruncateTo(cut.Offset); err != nil {
		t.Fatal(err)
	}
	begin(t, l, 3)
	lost3 := appendAll(t, l, links(7)...)
	if err := l.TruncateTo(cut.Offset); err != nil {
		t.Fatal(err)
	}
	begin(t, l, 4)
	end := appendAll(t, l, links(20)...)
	check := func(l *journal.Log) {
		t.Helper()
		for _, c := range []struct {
			tail change.LogPosition
			want uint64
			ok   bool
		}{
			{change.LogPosition{}, 0, true},
			{a, a.Offset, true},
			{b1, b1.Offset, true},
			{lost, cut.Offset, true},
			{lost3, cut.Offset, true},
			{cut, cut.Offset, true},
			{end, end.Offset, true},
			{change.LogPosition{Incarnation: id(1), Offset: a.Offset + 1}, a.Offset, true},
			{change.LogPosition{Incarnation: id(4), Offset: end.Offset + 100}, end.Offset, true},
			{change.LogPosition{Incarnation: id(9), Offset: 10}, 0, false},
		} {
			if got, ok := l.Common(c.tail); got != c.want || ok != c.ok {
				t.Errorf("%+v: %d, %v, want %d, %v", c.tail, got, ok, c.want, c.ok)
			}
		}
		want := []journal.Incarnation{{ID: id(1)}, {ID: id(2), Start: a.Offset}, {ID: id(4), Start: cut.Offset}}
		if got := l.Incarnations(); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	check(l)
	l.Close()
	l = open(t, disk, 0)
	check(l)
	if err := l.Free(cut.Offset); err != nil {
		t.Fatal(err)
	}
	if got, ok := l.Common(a); ok {
		t.Errorf("common at %d, which is freed", got)
	}
	if got, ok := l.Common(lost3); !ok || got != cut.Offset {
		t.Error(got, ok)
	}
}

func TestShared(t *testing.T) {
	list := func(pairs ...uint64) (l []journal.Incarnation) {
		for i := 0; i < len(pairs); i += 2 {
			l = append(l, journal.Incarnation{ID: id(byte(pairs[i])), Start: pairs[i+1]})
		}
		return l
	}
	for _, c := range []struct {
		a    []journal.Incarnation
		endA uint64
		b    []journal.Incarnation
		endB uint64
		want uint64
		ok   bool
	}{
		{list(1, 0, 3, 250), 300, list(1, 0, 2, 240), 400, 240, true},
		{list(1, 0, 3, 250), 300, list(1, 0), 200, 200, true},
		{list(1, 0), 300, list(1, 0), 310, 300, true},
		{list(1, 0), 300, list(2, 0), 310, 0, false},
		{nil, 0, list(2, 0), 310, 0, false},
	} {
		for range 2 {
			if got, ok := journal.Shared(c.a, c.endA, c.b, c.endB); got != c.want || ok != c.ok {
				t.Errorf("%v %d, %v %d: %d, %v", c.a, c.endA, c.b, c.endB, got, ok)
			}
			c.a, c.endA, c.b, c.endB = c.b, c.endB, c.a, c.endA
		}
	}
}

// A receiver that cut its log takes up an incarnation that it had before.
func TestReceiverFollowsIncarnations(t *testing.T) {
	sender := fresh(t, &journaltest.Disk{}, 0, 1)
	a := appendAll(t, sender, links(10)...)
	begin(t, sender, 2)
	appendAll(t, sender, links(10)...)
	all := raw(t, sender)
	l := fresh(t, &journaltest.Disk{}, 0, 1)
	follow := func(from uint64) {
		t.Helper()
		if from < a.Offset {
			begin(t, l, 1)
			if err := l.AppendRaw(from, all[from:a.Offset]); err != nil {
				t.Fatal(err)
			}
		}
		begin(t, l, 2)
		if err := l.AppendRaw(l.End().Offset, all[l.End().Offset:]); err != nil {
			t.Fatal(err)
		}
		if l.End() != sender.End() || !slices.Equal(l.Incarnations(), sender.Incarnations()) {
			t.Fatalf("%+v %v, want %+v %v", l.End(), l.Incarnations(), sender.End(), sender.Incarnations())
		}
	}
	follow(0)
	_, offsets, err := readAll(l, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []uint64{offsets[15], offsets[10], offsets[5], 0} {
		if err := l.TruncateTo(at); err != nil {
			t.Fatal(err)
		}
		follow(at)
	}
}

func TestReset(t *testing.T) {
	disk := &journaltest.Disk{}
	l := fresh(t, disk, 100, 1)
	appendAll(t, l, links(30)...)
	at := change.LogPosition{Incarnation: id(7), Offset: 12345, Chain: change.Digest{1}}
	if err := l.Reset(at); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if l.End() != at || l.Start() != at.Offset || l.Durable() != at {
			t.Fatalf("%+v from %d", l.End(), l.Start())
		}
		if pos, err := l.PositionAt(at.Offset); err != nil || pos != at {
			t.Fatal(pos, err)
		}
		if _, ok := l.Common(change.LogPosition{Incarnation: id(1), Offset: 20000}); ok {
			t.Fatal("knows incarnations of the log that was dropped")
		}
	}
	check()
	l.Close()
	l = open(t, disk, 100)
	check()
	b, err := journal.AppendRecord(nil, &change.Unlink{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AppendRaw(at.Offset, b); err != nil { // the sender is still in the same incarnation
		t.Fatal(err)
	}
	if got, ok := l.Common(l.End()); !ok || got != l.End().Offset || l.End().Incarnation != id(7) {
		t.Fatal(got, ok, l.End())
	}
}
