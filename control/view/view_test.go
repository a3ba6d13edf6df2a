package view

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"repld/change"
	"repld/control"
	"repld/health"
)

var now = time.Date(2026, 11, 21, 8, 0, 10, 0, time.UTC)

func TestStatus(t *testing.T) {
	barrier := control.BarrierOf(change.Certificate{
		ID: change.BarrierID{Epoch: 1, Seq: 812}, CutAt: now.Add(-10 * time.Second),
		Rung: change.RungOptimistic, Uncovered: []string{"tree/a"},
	})
	barrier.ConfirmedAt = control.TimeOf(now.Add(-2 * time.Second))
	s := control.Status{
		Node: "slayer", Version: "0.1.0", Designated: control.DesignatedPrimary, Role: control.RoleProduction,
		Status: control.StatusProduction, Epoch: 1,
		Peer: &control.Peer{Name: "megadeth", Address: "10.0.0.2:7440", Link: control.LinkUp, Status: control.StatusStandby,
			RTT: new(control.Seconds(400 * time.Microsecond))},
		Groups: []control.Group{{
			Name: "tree", Phase: control.PhaseStreaming, Trees: []control.TreePath{{Name: "tree", Path: "/srv/data"}},
			Barriers: control.GroupBarriers{Captured: &barrier},
			Lag:      &control.Lag{Seconds: new(control.Seconds(210 * time.Millisecond)), Files: new(uint64(1))},
			Tree:     &control.Tree{Files: 46000, Bytes: 1 << 30, Digest: change.Digest{0xab}},
			Journal:  &control.Journal{Bytes: 1 << 20},
			Sent:     &control.Sent{Bytes: 5 << 20, Chunks: 40, ChunksDeduplicated: new(uint64(3))},
		}},
		Health: []health.Condition{{Code: health.BarrierLate, Severity: health.Warning, Since: now.Add(-12 * time.Second),
			Group: "tree", Text: "no barrier for 12 s", Hint: "see which file"}},
	}
	const want = `node        slayer, repld 0.1.0, epoch 1
role        production (status production, designated primary)
peer        megadeth 10.0.0.2:7440: link up, standby, round trip 0.4 ms
group       tree: streaming
  path      /srv/data
  captured  1-812, cut 10 s ago, confirmed 2 s ago, 1 file uncovered
  received  none yet
  applied   none yet
  lag       0.21 s, 1 file
  tree      46,000 files, 1.0 GiB, b3:ab0000000000…
  journal   1.0 MiB
  link      5.0 MiB in 40 chunks, 3 chunks not sent again
health      WARNING barrier-late (tree) for 12 s: no barrier for 12 s
            → see which file
`
	var b bytes.Buffer
	if err := Status(&b, &s, now, nil); err != nil || b.String() != want {
		t.Errorf("%v, got\n%s", err, b.String())
	}
}

func TestStatusOfAYoungNode(t *testing.T) {
	s := control.Status{Node: "n", Groups: []control.Group{{Name: "tree", Phase: control.PhaseSeeding, Seed: &control.Seed{FilesDone: 3}}}}
	var b bytes.Buffer
	var m SeedMeter
	err := Status(&b, &s, now, func(g *control.Group) string { return m.Line(g.Seed, now) })
	for _, want := range []string{"peer        none yet", "seed      3 files  0 B", "health      ok"} {
		if err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%v, no %q in\n%s", err, want, b.String())
		}
	}
}

func TestStatusOfANodeThatIsDown(t *testing.T) {
	s := control.Status{Node: "n", Role: control.RoleDown, Status: control.StatusDown, Designated: control.DesignatedPrimary,
		Cause: control.DownPlan, Why: "a cutover is under way"}
	for want, p := range map[string]control.RolePlan{
		"cutover, at step barrier":                                {Kind: "cutover", Step: "barrier"},
		"cutover is taken back, at step demote: the link is down": {Kind: "cutover", Step: "demote", Back: true, Failure: "the link is down"},
		"failover has stopped at step services: exit 1":           {Kind: "failover", Step: "services", Failure: "exit 1"},
	} {
		s.Plan = &p
		var b bytes.Buffer
		want = "role        down (status down, designated primary)\n            a cutover is under way\nplan        " + want + "\n"
		if err := Status(&b, &s, now, nil); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%v, no %q in\n%s", err, want, b.String())
		}
	}
}

func TestSeedMeter(t *testing.T) {
	var m SeedMeter
	seed := func(files, size uint64) *control.Seed {
		return &control.Seed{FilesDone: files, FilesTotal: new(uint64(4000)), BytesDone: size << 20, BytesTotal: new(uint64(300 << 20))}
	}
	// What an earlier session did is no speed.
	if got := m.Line(seed(1000, 75), now); got != "[======>                 ]  25 %  1,000/4,000 files  75 MiB/300 MiB" {
		t.Errorf("%q", got)
	}
	if got := m.Line(seed(2000, 150), now.Add(5*time.Second)); !strings.HasSuffix(got, "150 MiB/300 MiB  15 MiB/s  ETA 10 s") {
		t.Errorf("%q", got)
	}
	// The rate is that of the last seconds.
	for i := range 20 {
		m.Line(seed(2000, 150), now.Add(time.Duration(6+i)*time.Second))
	}
	if got := m.Line(seed(2000, 150), now.Add(30*time.Second)); strings.Contains(got, "/s") {
		t.Errorf("a stalled seed: %q", got)
	}
	if got := m.Line(seed(4000, 300), now.Add(31*time.Second)); !strings.HasPrefix(got, "["+strings.Repeat("=", 24)+"] 100 %") {
		t.Errorf("%q", got)
	}
	if got := m.Line(seed(1, 1), now.Add(32*time.Second)); strings.Contains(got, "ETA") {
		t.Errorf("a new seed goes on with the old one's rate: %q", got)
	}
	done := &control.Seed{FilesTotal: new(uint64(0)), BytesTotal: new(uint64(0)), ETA: new(control.Seconds(0))}
	if got := new(SeedMeter).Line(done, now); !strings.Contains(got, "100 %") || !strings.HasSuffix(got, "ETA 0 s") {
		t.Errorf("an empty tree: %q", got)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 0: "0 s", 210 * time.Millisecond: "0.21 s", 12 * time.Second: "12 s",
		185 * time.Second: "3m5s", 7500 * time.Second: "2h5m", 51 * time.Hour: "2d3h",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%s: %q, want %q", d.String(), got, want)
		}
	}
}

func TestLine(t *testing.T) {
	var b bytes.Buffer
	l := NewLine(&b)
	l.Clear()
	l.End()
	l.Draw("one")
	l.Clear()
	l.Draw("two")
	l.End()
	if b.String() != "\rone\x1b[K\r\x1b[K\rtwo\x1b[K\n" {
		t.Errorf("%q", b.String())
	}
}
