package control

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"repld/health"
	"repld/ready"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCalls(t *testing.T) {
	b := newFake(t)
	c, _ := serve(t, b)
	ctx := t.Context()

	status, err := c.Status(ctx)
	if err != nil || status.Node != "slayer" || status.Groups[0].Name != "tree" {
		t.Fatalf("status: %+v, %v", status, err)
	}
	reply, err := c.Barrier(ctx, BarrierRequest{})
	if err != nil || reply.ID.String() != "3-812" || reply.State != BarrierCaptured || reply.Group != "tree" {
		t.Fatalf("barrier: %+v, %v", reply, err)
	}
	if !reply.CutAt.Equal(testBarrier().CutAt.Time) {
		t.Fatalf("barrier cut at %s", reply.CutAt)
	}
	list, err := c.Barriers(ctx, BarriersRequest{Limit: 2})
	if err != nil || len(list.Barriers) != 2 {
		t.Fatalf("barriers: %+v, %v", list, err)
	}
	var progress []VerifyProgress
	report, err := c.Verify(ctx, VerifyRequest{Repair: true}, func(p VerifyProgress) { progress = append(progress, p) })
	if err != nil || !report.Equal || len(progress) != 3 || progress[2].FilesDone != 2 {
		t.Fatalf("verify: %+v, %+v, %v", report, progress, err)
	}
	paused, err := c.Pause(ctx, ApplyRequest{Group: "tree"})
	if err != nil || !paused.Paused || (<-b.paused).Group != "tree" {
		t.Fatalf("pause: %+v, %v", paused, err)
	}
	e := wantExit(t, second(c.Resume(ctx, ApplyRequest{})), ExitRefused)
	if e.State != "halted" || e.Hint != "resume --accept" {
		t.Fatalf("resume: %+v", e)
	}
	if _, err := c.Resume(ctx, ApplyRequest{Accept: true}); err != nil {
		t.Fatal(err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestErrorsCarryTheirExitCode(t *testing.T) {
	b := newFake(t)
	c, _ := serve(t, b)
	for code, err := range map[Exit]error{
		ExitFailed:   errors.New("disk on fire"),
		ExitUsage:    Errorf(ExitUsage, "disk on fire"),
		ExitNoDaemon: Errorf(ExitNoDaemon, "disk on fire"),
		ExitRefused:  Errorf(ExitRefused, "disk on fire"),
		ExitPeer:     Errorf(ExitPeer, "disk on fire"),
		ExitDiffers:  Errorf(ExitDiffers, "disk on fire"),
	} {
		b.err = err
		got := second(c.Barrier(t.Context(), BarrierRequest{}))
		if wantExit(t, got, code); got.Error() != "disk on fire" {
			t.Errorf("exit %d: %v", code, got)
		}
		wantExit(t, second(c.Verify(t.Context(), VerifyRequest{}, nil)), code)
	}
}

func TestGroups(t *testing.T) {
	b := newFake(t)
	c, _ := serve(t, b)
	wantExit(t, second(c.Barrier(t.Context(), BarrierRequest{Group: "none"})), ExitUsage)
	wantExit(t, second(c.Pause(t.Context(), ApplyRequest{Group: "none"})), ExitUsage)
	b.state.Groups = append(b.state.Groups, Group{Name: "other"})
	e := wantExit(t, second(c.Barriers(t.Context(), BarriersRequest{})), ExitUsage)
	if !strings.Contains(e.Hint, "tree, other") {
		t.Errorf("hint %q", e.Hint)
	}
	if _, err := c.Barriers(t.Context(), BarriersRequest{Group: "other"}); err != nil {
		t.Error(err)
	}
}

func TestBadRequests(t *testing.T) {
	c, _ := serve(t, newFake(t))
	ctx := t.Context()
	wantExit(t, second(c.Barrier(ctx, BarrierRequest{Wait: "published"})), ExitUsage)
	wantExit(t, second(c.Barrier(ctx, BarrierRequest{Timeout: -1})), ExitUsage)
	wantExit(t, second(c.Barriers(ctx, BarriersRequest{Limit: -1})), ExitUsage)
	wantExit(t, second(call[Status](ctx, c, 0, "POST", "/v1/barrier", map[string]string{"wayt": "applied"})), ExitUsage)
	wantExit(t, second(call[Status](ctx, c, 0, "POST", "/v9/failover", nil)), ExitUsage)
	wantExit(t, second(call[Status](ctx, c, 0, "GET", "/v1/events?since_seconds=yesterday", nil)), ExitUsage)
}

func TestBarrierTimeout(t *testing.T) {
	b := newFake(t)
	b.block = true
	b.state.Health = append(b.state.Health, lateBarrier)
	c, _ := serve(t, b)
	e := wantExit(t, second(c.Barrier(t.Context(), BarrierRequest{Wait: BarrierApplied, Timeout: Seconds(time.Millisecond)})), ExitTimeout)
	if e.Text != "no barrier of group tree was applied within 1ms" || !strings.Contains(e.Hint, "no barrier for 12 s") {
		t.Errorf("%+v", e)
	}
}

func TestCallerGivesUp(t *testing.T) {
	b := newFake(t)
	b.block = true
	c, _ := serve(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Verify(ctx, VerifyRequest{}, func(VerifyProgress) { cancel() })
	if wantExit(t, err, ExitInterrupted); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v does not wrap context.Canceled", err)
	}
}

func TestStoppingServer(t *testing.T) {
	b := newFake(t)
	b.block = true
	c, stop := serve(t, b)
	_, err := c.Verify(t.Context(), VerifyRequest{}, func(VerifyProgress) { stop() })
	wantExit(t, err, ExitNoDaemon)
	// A call is cancelled before the socket is closed.
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-again.C {
		if _, err = c.Status(t.Context()); err != nil {
			break
		}
	}
	wantExit(t, err, ExitNoDaemon)
}

func TestFollowEvents(t *testing.T) {
	b := newFake(t)
	c, _ := serve(t, b)
	b.log.Add(Event{Type: EventStarted, Text: "one"})
	stop := errors.New("enough")
	var got []string
	err := c.Events(t.Context(), EventsRequest{Follow: true}, func(e Event) error {
		got = append(got, e.Text)
		if e.Text == "three" {
			return stop
		}
		return b.log.Add(Event{Type: EventLinkUp, Text: map[string]string{"one": "two", "two": "three"}[e.Text]})
	})
	if !errors.Is(err, stop) || strings.Join(got, " ") != "one two three" {
		t.Fatalf("got %v, %v", got, err)
	}
	got = nil
	err = c.Events(t.Context(), EventsRequest{}, func(e Event) error { got = append(got, e.Text); return nil })
	if err != nil || len(got) != 3 {
		t.Fatalf("got %v, %v", got, err)
	}
}

func TestStatusJSON(t *testing.T) {
	c, _ := serve(t, newFake(t))
	status, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"node":"slayer","version":"","designated":"","role":"production","status":"production","epoch":1,` +
		`"groups":[{"name":"tree","phase":"streaming","barriers":{}}],"health":[]}`
	if string(got) != want {
		t.Errorf("an unknown value is absent:\n got %s\nwant %s", got, want)
	}
}

// A daemon that can't tell says so; one that can is asked.
func TestReady(t *testing.T) {
	c, _ := serve(t, newFake(t))
	e := wantExit(t, second(c.Ready(t.Context())), ExitUsage)
	if !strings.Contains(e.Text, "not in this version") {
		t.Errorf("found %v", e)
	}
	c, _ = serve(t, &readyBackend{fakeBackend: newFake(t)})
	r, err := c.Ready(t.Context())
	if err != nil || r.Node != "slayer" || r.Checks == nil || r.Parity == nil {
		t.Fatalf("found %+v, %v", r, err)
	}
	if e := wantExit(t, NotReady(r), ExitRefused); e.Text != "a cutover would not work now" {
		t.Errorf("found %v", e)
	}
	r.Checks = append(r.Checks, ready.Check{Name: "link", Severity: health.Critical, Text: "down", Hint: "do"})
	if e := wantExit(t, NotReady(r), ExitRefused); e.Text != "a cutover would not work now: link: down" || e.Hint != "do" {
		t.Errorf("found %v", e)
	}
	if r.Ready = true; NotReady(r) != nil {
		t.Error("ready is an error")
	}
}

type readyBackend struct{ *fakeBackend }

func (readyBackend) Ready(context.Context) (*ready.Ready, error) {
	return &ready.Ready{Node: "slayer"}, nil
}
