package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"
	"time"

	"repld/change"
	"repld/health"
)

// TestStatusContract holds the names, the units and the presence of every field
// that operators' scripts read.
func TestStatusContract(t *testing.T) {
	at := time.Date(2026, 11, 21, 9, 0, 0, 123456789, time.FixedZone("CET", 3600))
	barrier := testBarrier()
	barrier.ConfirmedAt = TimeOf(at)
	barrier.CutAge, barrier.ConfirmedAge = new(Seconds(2*time.Second)), new(Seconds(time.Second))
	barrier.Digest = change.Digest{}
	s := Status{
		Node: "slayer", Version: "0.1.0", Designated: DesignatedPrimary, Role: RoleProduction, Status: StatusProduction, Epoch: 3,
		Peer: &Peer{Name: "megadeth", Address: "10.0.0.2:7440", Link: LinkUp, Status: StatusStandby, Epoch: new(change.Epoch(3)),
			RTT: new(Seconds(400 * time.Microsecond)), LastSeen: TimeOf(at), LastSeenAge: new(Seconds(time.Second))},
		Groups: []Group{{
			Name: "sounz", Phase: PhaseStreaming, Trees: []TreePath{{"data", "/data/sounz"}},
			Barriers: GroupBarriers{Captured: &barrier},
			Lag:      &Lag{Seconds: new(Seconds(210 * time.Millisecond)), Bytes: new(uint64(40960)), Files: new(uint64(0))},
			Seed:     &Seed{FilesDone: 10, FilesTotal: new(uint64(10)), BytesDone: 1000, BytesTotal: new(uint64(1000)), ETA: new(Seconds(0))},
			Tree:     &Tree{Files: 10, Bytes: 1000}, Journal: &Journal{Bytes: 1 << 20, LimitBytes: new(uint64(8 << 30))},
			Sent: &Sent{Bytes: 123, Chunks: 4, ChunksDeduplicated: new(uint64(40)), BytesBeforeCompression: new(uint64(456))},
		}},
		Health: []health.Condition{{Code: health.BarrierLate, Severity: health.Warning, Since: at.UTC(), Group: "sounz", Text: "t", Hint: "h"}},
	}
	const want = `{"node":"slayer","version":"0.1.0","designated":"primary","role":"production","status":"production","epoch":3,
	"peer":{"name":"megadeth","address":"10.0.0.2:7440","link":"up","status":"standby","epoch":3,
		"rtt_seconds":0.0004,"last_seen":"2026-11-21T08:00:00.123456789Z","last_seen_age_seconds":1},
	"groups":[{"name":"sounz","phase":"streaming","trees":[{"name":"data","path":"/data/sounz"}],
		"barriers":{"captured":{"id":"3-812","epoch":3,"seq":812,"cut_at":"2026-11-21T08:00:00.1Z",
			"confirmed_at":"2026-11-21T08:00:00.123456789Z","cut_age_seconds":2,"confirmed_age_seconds":1,"databases":{},"rung":"optimistic","stall_seconds":0,"uncovered":[]}},
		"lag":{"seconds":0.21,"bytes":40960,"files":0},
		"seed":{"files_done":10,"files_total":10,"bytes_done":1000,"bytes_total":1000,"eta_seconds":0},
		"tree":{"files":10,"bytes":1000},
		"journal":{"bytes":1048576,"limit_bytes":8589934592},
		"sent":{"bytes":123,"chunks":4,"chunks_deduplicated":40,"bytes_before_compression":456}}],
	"health":[{"code":"barrier-late","severity":"warning","since":"2026-11-21T08:00:00.123456789Z","group":"sounz","text":"t","hint":"h"}]}`
	got, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var g, w any
	if err := errors.Join(json.Unmarshal(got, &g), json.Unmarshal([]byte(want), &w)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got %s\nwant %s", got, want)
	}
	var back Status
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil || string(again) != string(got) {
		t.Errorf("round trip: %v\n got %s\nwant %s", err, again, got)
	}
}

func TestSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{"0": 0, "0.0004": 400 * time.Microsecond, "-1.5": -1500 * time.Millisecond, "1e9": 1e18} {
		var s Seconds
		if err := json.Unmarshal([]byte(text), &s); err != nil || s.Duration() != want {
			t.Errorf("%s: %v, %v", text, s.Duration(), err)
		}
	}
	for _, text := range []string{`"1s"`, "1e10", "{}"} {
		var s Seconds
		if err := json.Unmarshal([]byte(text), &s); err == nil {
			t.Errorf("%s is taken as %v", text, s.Duration())
		}
	}
	if b, _ := json.Marshal(Seconds(time.Nanosecond)); string(b) != "0.000000001" {
		t.Errorf("one nanosecond is %s", b)
	}
}

func TestExitOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Exit
	}{
		{nil, ExitDone},
		{io.EOF, ExitFailed},
		{fmt.Errorf("call: %w", Errorf(ExitPeer, "gone")), ExitPeer},
		{fmt.Errorf("call: %w", context.Canceled), ExitInterrupted},
		{context.DeadlineExceeded, ExitTimeout},
		{Errorf(ExitRefused, "%w", context.Canceled), ExitRefused},
	} {
		if got := ExitOf(c.err); got != c.want {
			t.Errorf("%v: exit %d, want %d", c.err, got, c.want)
		}
	}
	if AsError(nil) != nil {
		t.Error("an error out of none")
	}
	if e := Errorf(ExitFailed, "read: %w", io.EOF).WithHint("retry").WithState("s"); !errors.Is(e, io.EOF) || e.Error() != "read: EOF" {
		t.Errorf("%v has lost its cause", e)
	}
}

func TestIs(t *testing.T) {
	s := Status{Role: RoleProduction, Status: StatusStandbyAsProduction}
	for word, want := range map[string]bool{
		"production": true, "standby": false, "standby_as_production": true, "down": false, "nonsense": false, "": false,
	} {
		if s.Is(word) != want {
			t.Errorf("is %q: %v", word, !want)
		}
	}
}
