package alert

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"repld/health"
)

// bubbleClock is the clock of a synctest bubble.
type bubbleClock struct{ start time.Time }

func (c bubbleClock) Now() time.Time      { return time.Now().UTC() }
func (c bubbleClock) Mono() time.Duration { return time.Since(c.start) }

// rig is an alerter whose messages go into a list.
type rig struct {
	t     *testing.T
	start time.Time
	board *health.Board
	a     *Alerter
	end   func()

	mu         sync.Mutex
	fail       map[string]error // by sink
	messages   map[string][]*Message
	sentAt     map[string][]time.Duration // since start, also those that failed
	deliveries []Delivery
	hold       time.Duration // how long a sink takes
}

// newRig makes an alerter and runs it; within a bubble.
func newRig(t *testing.T, state string, sinks ...Sink) *rig {
	t.Helper()
	r := &rig{t: t, start: time.Now(), fail: map[string]error{}, messages: map[string][]*Message{}, sentAt: map[string][]time.Duration{}}
	clock := bubbleClock{r.start}
	r.board = health.NewBoard(clock)
	var err error
	r.a, err = New(Options{Node: "slayer", Board: r.board, Sinks: sinks, State: state, Clock: clock, Delivered: func(d Delivery) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.deliveries = append(r.deliveries, d)
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.a.send = r.send
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.a.Run(ctx) }()
	r.end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) send(ctx context.Context, s *Sink, m *Message) (string, error) {
	r.mu.Lock()
	hold, err := r.hold, r.fail[s.Name]
	r.sentAt[s.Name] = append(r.sentAt[s.Name], time.Since(r.start))
	r.mu.Unlock()
	if hold > 0 {
		select {
		case <-time.After(hold):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages[s.Name] = append(r.messages[s.Name], m)
	return "ok", nil
}

func (r *rig) pass(d time.Duration) {
	<-time.After(d) // of the bubble: it takes no time
	synctest.Wait()
}

// told returns the changes in the new messages of a sink, in short.
func (r *rig) told(sink string) string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for _, m := range r.messages[sink] {
		for _, c := range m.Changes {
			list = append(list, fmt.Sprintf("%s %s", c.Kind, c.Code))
		}
	}
	delete(r.messages, sink)
	return strings.Join(list, ", ")
}

func (r *rig) wants(sink, want string) {
	r.t.Helper()
	if got := r.told(sink); got != want {
		r.t.Fatalf("after %s %s was told %q, want %q", time.Since(r.start), sink, got, want)
	}
}

func (r *rig) failing(sink string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail[sink] = err
}

func raise(b *health.Board, code health.Code) { b.Raise(health.Condition{Code: code, Text: "t"}) }

func command(name string, every time.Duration) Sink {
	return Sink{Name: name, Exec: []string{"/bin/true"}, AtMostEvery: every}
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "", command("mail", 5*time.Minute), command("pager", 0))
		defer r.end()
		raise(r.board, health.LinkDown)
		r.wants("mail", "raised link-down") // the first at once
		r.wants("pager", "raised link-down")
		r.pass(time.Minute)
		raise(r.board, health.BarrierLate)
		r.wants("pager", "raised barrier-late")
		raise(r.board, health.DiskLow)
		r.pass(time.Minute)
		r.board.Resolve(health.BarrierLate, "", "")
		r.wants("pager", "raised disk-low, resolved barrier-late")
		r.board.Resolve(health.LinkDown, "", "")
		r.wants("mail", "")
		r.pass(3*time.Minute - 1)
		r.wants("mail", "")
		r.pass(1)
		r.mu.Lock()
		m := r.messages["mail"][0]
		r.mu.Unlock()
		r.wants("mail", "raised disk-low, resolved barrier-late, resolved link-down")
		want := "slayer: critical disk-low raised: t; and 2 more: barrier-late came and went, link-down resolved"
		if m.Summary != want || len(m.Changes) != 3 || len(m.Standing) != 1 || m.Node != "slayer" || m.Hint == "" {
			t.Errorf("%+v", m)
		}
		r.pass(time.Hour)
		r.wants("mail", "")
		r.board.Resolve(health.DiskLow, "", "")
		r.wants("mail", "resolved disk-low") // at once, after a quiet time
	})
}

func TestFlappingDoesNotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "", command("mail", 5*time.Minute))
		defer r.end()
		for range 3600 / 2 {
			raise(r.board, health.LinkDown)
			r.pass(time.Second)
			r.board.Resolve(health.LinkDown, "", "")
			r.pass(time.Second)
		}
		r.pass(5 * time.Minute)
		if n := len(r.sentAt["mail"]); n < 12 || n > 14 {
			t.Errorf("an hour of flapping made %d messages", n)
		}
		last := r.messages["mail"][len(r.messages["mail"])-1]
		if last.Kind != health.Resolved {
			t.Errorf("the last message is %+v", last)
		}
	})
}

func TestFailingSinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := Sink{Name: "service", HTTP: &HTTP{URL: "http://x/"}, AtMostEvery: 2 * time.Minute}
		r := newRig(t, "", command("mail", time.Minute), service, command("other", 0))
		defer r.end()
		r.failing("mail", errors.New("no mail server"))
		r.failing("service", errors.New("connection refused"))
		raise(r.board, health.DiskLow)
		r.pass(time.Second / 2)
		r.wants("other", "raised disk-low, raised alert-failed") // a command: at once
		r.pass(7 * time.Second)
		r.wants("other", "raised alert-failed") // a service: after its quick tries
		if list := r.board.List(); len(list) != 3 || list[1].Code != health.AlertFailed || list[1].Subject != "mail" || !strings.Contains(list[1].Text, "no mail server") {
			t.Fatalf("%+v", list)
		}
		r.pass(2 * time.Hour)
		seconds := func(sink string) (list []int) {
			for _, at := range r.sentAt[sink] {
				list = append(list, int(at.Seconds()))
			}
			return list
		}
		if got := seconds("mail")[:6]; !slices.Equal(got, []int{0, 60, 120, 240, 480, 960}) {
			t.Errorf("the command ran after %v s", got)
		}
		if got := seconds("service")[:8]; !slices.Equal(got, []int{0, 1, 3, 7, 37, 97, 217, 457}) {
			t.Errorf("the service was asked after %v s", got)
		}
		if n := len(r.sentAt["mail"]); n > 18 {
			t.Errorf("the command ran %d times in two hours", n)
		}
		r.wants("other", "")
		raise(r.board, health.LinkDown) // joins what could not be told
		r.board.Resolve(health.DiskLow, "", "")
		r.failing("mail", nil)
		r.failing("service", nil)
		r.pass(lastPause)
		// The sinks mend at different moments, each message naming what it has missed.
		for _, sink := range []string{"mail", "service"} {
			got := r.told(sink)
			if !strings.Contains(got, "raised link-down") || !strings.Contains(got, "resolved disk-low") || strings.Contains(got, "raised disk-low") {
				t.Errorf("%s was told %q", sink, got)
			}
		}
		if list := r.board.List(); len(list) != 1 || list[0].Code != health.LinkDown {
			t.Errorf("%+v", list)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		failed := 0
		for _, d := range r.deliveries {
			if d.Err != nil {
				failed++
				if !strings.Contains(d.Text(), "could not be sent") || d.Attrs()["sink"] != d.Sink {
					t.Errorf("%s %v", d.Text(), d.Attrs())
				}
			}
		}
		if failed != 2 {
			t.Errorf("%d failures were reported, want one for each sink", failed)
		}
	})
}

func TestSlowSinkHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "", Sink{Name: "slow", Exec: []string{"x"}, Timeout: 10 * time.Second})
		defer r.end()
		r.hold = time.Minute
		raise(r.board, health.LinkDown)
		r.pass(9 * time.Second)
		if len(r.board.List()) != 1 {
			t.Error("it failed before its time")
		}
		r.pass(2 * time.Second)
		if list := r.board.List(); len(list) != 2 || !strings.Contains(list[1].Text+list[0].Text, "deadline exceeded") {
			t.Errorf("%+v", list)
		}
	})
}

func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := filepath.Join(t.TempDir(), "alerts.json")
		r := newRig(t, state, command("mail", 0), command("gone", 0))
		raise(r.board, health.LinkDown)
		raise(r.board, health.DiskLow)
		r.pass(time.Second)
		r.end()

		r = newRig(t, state, command("mail", 0), command("new", 0))
		raise(r.board, health.LinkDown) // still so
		raise(r.board, health.BarrierLate)
		r.wants("mail", "raised barrier-late")
		if got := r.told("new"); !strings.Contains(got, "raised link-down") || !strings.Contains(got, "raised barrier-late") {
			t.Errorf("a new sink was told %q", got)
		}
		r.pass(59 * time.Second)
		r.wants("mail", "")
		r.pass(time.Second)
		r.wants("mail", "resolved disk-low") // not raised again
		r.end()

		if err := os.WriteFile(state, []byte(`{"version": 2, "told": {}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		r = newRig(t, state, command("mail", 0))
		defer r.end()
		raise(r.board, health.LinkDown)
		r.wants("mail", "raised link-down")
		if b, err := os.ReadFile(state); err != nil || !strings.HasPrefix(string(b), `{"version":1,"told":{"mail":[{"code":"link-down"`) {
			t.Errorf("%s, %v", b, err)
		}
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "", command("mail", time.Hour), command("bad", time.Hour))
		defer r.end()
		r.failing("bad", errors.New("no"))
		raise(r.board, health.LinkDown)
		r.pass(time.Minute)
		if got := r.told("mail"); !strings.Contains(got, "raised link-down") {
			t.Fatal(got)
		}
		if err := r.a.Set([]Sink{{}}); err == nil {
			t.Fatal("a sink without a target was taken")
		}
		if err := r.a.Set([]Sink{command("mail", 2*time.Minute)}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := r.a.Set([]Sink{command("mail", 2*time.Minute), command("pager", 0)}); err != nil {
			t.Fatal(err)
		}
		r.wants("pager", "raised link-down")
		if list := r.board.List(); len(list) != 1 {
			t.Errorf("the failure of a sink that is gone stands: %+v", list)
		}
		r.wants("mail", "") // knows it already
		r.pass(time.Minute)
		r.told("mail") // bad's failure, come and gone
		raise(r.board, health.DiskLow)
		r.wants("mail", "")
		r.pass(2 * time.Minute)
		r.wants("mail", "raised disk-low")
		tried := len(r.sentAt["bad"])
		if err := r.a.Set(nil); err != nil {
			t.Fatal(err)
		}
		r.pass(time.Minute)
		raise(r.board, health.HookFailed)
		r.pass(time.Hour)
		r.wants("mail", "")
		r.wants("pager", "raised disk-low")
		if len(r.sentAt["bad"]) != tried {
			t.Error("a sink that is gone was told")
		}
	})
}

// TestModel lets anything happen and keeps, from the messages alone, the list that a
// reader would keep.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			every := time.Duration(rnd.IntN(3)) * time.Minute
			r := newRig(t, filepath.Join(t.TempDir(), "alerts.json"), command("mail", every))
			defer func() { r.end() }()
			codes := health.Codes()[:6]
			severities := []health.Severity{health.Info, health.Warning, health.Critical}
			for range 300 {
				code := codes[rnd.IntN(len(codes))]
				switch rnd.IntN(8) {
				case 0, 1, 2:
					r.board.Raise(health.Condition{Code: code, Severity: severities[rnd.IntN(3)], Text: fmt.Sprint(rnd.IntN(3))})
				case 3, 4:
					r.board.Resolve(code, "", "")
				case 5:
					r.failing("mail", nil)
				case 6:
					r.failing("mail", errors.New("x"))
				default:
					r.pass(time.Duration(rnd.IntN(90)) * time.Second)
				}
			}
			r.failing("mail", nil)
			r.pass(time.Hour)
			r.check(codes, every)
		})
	}
}

func (r *rig) check(codes []health.Code, every time.Duration) {
	r.t.Helper()
	known := map[health.Code]health.Severity{}
	for i, m := range r.messages["mail"] {
		if len(m.Changes) != m.More+1 || m.Changes[0] != m.Change {
			r.t.Fatalf("%+v", m)
		}
		for _, c := range m.Changes {
			_, knows := known[c.Code]
			switch {
			case c.Untold && knows, !c.Untold && knows == (c.Kind == health.Raised):
				r.t.Fatalf("message %d: %s of %s, which the reader knows: %v", i, c.Kind, c.Code, knows)
			case c.Kind == health.Resolved:
				delete(known, c.Code)
			default:
				known[c.Code] = c.Severity
			}
		}
	}
	for _, c := range r.board.List() {
		if known[c.Code] != c.Severity {
			r.t.Errorf("%s is %s, the reader thinks %q", c.Code, c.Severity, known[c.Code])
		}
		delete(known, c.Code)
	}
	if len(known) > 0 {
		r.t.Errorf("the reader still has %v of %v", known, codes)
	}
	sent := r.sentAt["mail"]
	for i := 1; i < len(sent); i++ {
		if sent[i]-sent[i-1] < every {
			r.t.Errorf("messages after %s and %s, want %s between them", sent[i-1], sent[i], every)
		}
	}
}
