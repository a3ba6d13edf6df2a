package web

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"repld/change"
	"repld/control"
	"repld/health"
)

// at is the moment of every test.
var at = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

type fixedClock struct{}

func (fixedClock) Now() time.Time      { return at }
func (fixedClock) Mono() time.Duration { return time.Hour }

func seconds(d time.Duration) *control.Seconds { return new(control.Seconds(d)) }

// node is a standby of two groups, one of them in trouble.
func node() *control.Status {
	barrier := func(seq uint64, cut time.Duration) *control.Barrier {
		b := control.BarrierOf(change.Certificate{ID: change.BarrierID{Epoch: 3, Seq: seq}, CutAt: at.Add(-cut), Rung: change.RungOptimistic})
		return &b
	}
	applied := barrier(811, 3*time.Second)
	applied.Uncovered = []string{"data/pages"}
	captured := barrier(812, 2*time.Second)
	captured.ConfirmedAt = control.TimeOf(at.Add(-time.Second))
	captured.CutAge = seconds(1500 * time.Millisecond) // the wall clock was set meanwhile
	return &control.Status{
		Node: "slayer", Version: "0.1.0", Designated: control.DesignatedSecondary, Role: control.RoleStandby,
		Status: control.StatusStandby, Epoch: 3,
		Peer: &control.Peer{Name: "megadeth", Address: "10.0.0.2:7440", Link: control.LinkUp, Status: control.StatusProduction,
			RTT: seconds(400 * time.Microsecond), LastSeen: control.TimeOf(at.Add(-250 * time.Millisecond))},
		Groups: []control.Group{{
			Name: "sounz", Phase: control.PhaseStreaming, Trees: []control.TreePath{{Name: "data", Path: "/data/sounz"}},
			Barriers: control.GroupBarriers{Captured: captured, Received: captured, Applied: applied},
			Lag:      &control.Lag{Seconds: seconds(210 * time.Millisecond), Bytes: new(uint64(40960)), Files: new(uint64(2))},
			Seed:     &control.Seed{FilesDone: 10, FilesTotal: new(uint64(10)), BytesDone: 1000, BytesTotal: new(uint64(1000)), ETA: seconds(0)},
			Tree:     &control.Tree{Files: 10, Bytes: 1000},
			Journal:  &control.Journal{Bytes: 1 << 20, LimitBytes: new(uint64(8 << 30))},
			Sent:     &control.Sent{Bytes: 123, Chunks: 4, ChunksDeduplicated: new(uint64(40)), BytesBeforeCompression: new(uint64(456))},
		}, {Name: "mail", Phase: control.PhaseSeeding}},
		Health: []health.Condition{
			{Code: health.BarrierLate, Severity: health.Warning, Group: "sounz", Text: "no barrier for 12 s; the limit is 10 s", Hint: "look", Since: at.Add(-12 * time.Second)},
			{Code: health.ForeignWrite, Severity: health.Warning, Group: "sounz", Subject: "a", Text: "a"},
			{Code: health.ForeignWrite, Severity: health.Warning, Group: "sounz", Subject: "b", Text: "b"},
		},
	}
}

// asked is a server of a status and how often it was asked for it.
type asked struct {
	*Server
	status *control.Status
	err    error
	calls  atomic.Int32
}

func serve(status *control.Status) *asked {
	a := &asked{status: status}
	a.Server = New(Options{Clock: fixedClock{}, Status: func(context.Context) (*control.Status, error) {
		a.calls.Add(1)
		return a.status, a.err
	}})
	return a
}

func do(h http.Handler, method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}

func answerOf(t *testing.T, w *httptest.ResponseRecorder) Answer {
	t.Helper()
	var a Answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("%q: %v", w.Body, err)
	}
	return a
}
