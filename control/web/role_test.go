package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"repld/control"
)

func TestRoles(t *testing.T) {
	for _, role := range []control.Role{control.RoleProduction, control.RoleStandby, control.RoleDown} {
		status := node()
		status.Role = role
		s := serve(status)
		for path, wanted := range map[string]control.Role{
			"/production": control.RoleProduction, "/primary": control.RoleProduction, "/standby": control.RoleStandby,
		} {
			want := http.StatusServiceUnavailable
			if role == wanted {
				want = http.StatusOK
			}
			before := s.calls.Load()
			w := do(s, http.MethodGet, path)
			if w.Code != want {
				t.Errorf("role %s: %s answers %d, want %d", role, path, w.Code, want)
			}
			if n := s.calls.Load() - before; n != 1 {
				t.Errorf("%s asked for %d statuses", path, n)
			}
			a := answerOf(t, w)
			if a.OK != (role == wanted) || a.Wanted != string(wanted) || a.Role != role || a.Node != "slayer" || a.Status != status.Status ||
				*a.Epoch != 3 || (a.Why == "") != a.OK {
				t.Errorf("role %s: %s answers %+v", role, path, a)
			}
			for _, method := range []string{http.MethodHead, http.MethodOptions} {
				if w := do(s, method, path); w.Code != want || w.Body.Len() != 0 {
					t.Errorf("%s %s: %d with %d bytes, want %d with none", method, path, w.Code, w.Body.Len(), want)
				}
			}
		}
		if w := do(s, http.MethodGet, "/healthz"); w.Code != http.StatusOK {
			t.Errorf("role %s: a daemon that answers is not healthy: %s", role, w.Body)
		}
	}
}

func TestMaxLag(t *testing.T) {
	lag := func(d time.Duration) *control.Lag { return &control.Lag{Seconds: seconds(d)} }
	for _, test := range []struct {
		name   string
		role   control.Role
		groups []control.Group
		query  string
		code   int
		behind string
	}{
		{"all within", control.RoleStandby, []control.Group{{Name: "a", Lag: lag(5 * time.Second)}, {Name: "b", Lag: lag(0)}}, "max-lag=5s", 200, ""},
		{"one further", control.RoleStandby, []control.Group{{Name: "a", Lag: lag(0)}, {Name: "b", Lag: lag(5001 * time.Millisecond)}}, "max-lag=5s", 503, "b"},
		{"two further", control.RoleStandby, []control.Group{{Name: "a", Lag: lag(time.Hour)}, {Name: "b", Lag: lag(6 * time.Second)}}, "max-lag=5s", 503, "a b"},
		{"unknown lag", control.RoleStandby, []control.Group{{Name: "a", Lag: lag(0)}, {Name: "b"}}, "max-lag=5s", 503, "b"},
		{"unknown seconds", control.RoleStandby, []control.Group{{Name: "a", Lag: &control.Lag{Bytes: new(uint64(0))}}}, "max-lag=5s", 503, "a"},
		{"no group", control.RoleStandby, nil, "max-lag=5s", 503, ""},
		{"unknown lag, but nobody asks", control.RoleStandby, []control.Group{{Name: "a"}}, "", 200, ""},
		{"zero", control.RoleStandby, []control.Group{{Name: "a", Lag: lag(0)}}, "max-lag=0s", 200, ""},
		{"minutes", control.RoleStandby, []control.Group{{Name: "a", Lag: lag(80 * time.Second)}}, "max-lag=1m30s", 200, ""},
		{"production", control.RoleProduction, []control.Group{{Name: "a", Lag: lag(0)}}, "max-lag=5s", 503, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := do(serve(&control.Status{Role: test.role, Groups: test.groups}), http.MethodGet, "/standby?"+test.query)
			a := answerOf(t, w)
			var behind []string
			for _, b := range a.Behind {
				behind = append(behind, b.Group)
			}
			if w.Code != test.code || strings.Join(behind, " ") != test.behind || (a.Why == "") != (w.Code == 200) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	w := do(serve(node()), http.MethodGet, "/standby?max-lag=100ms")
	want := `{"ok":false,"wanted":"standby","why":"group sounz (streaming) is behind by 0.21 s, group mail (seeding) is behind by an unknown time: want at most 100ms",` +
		`"node":"slayer","role":"standby","status":"standby","epoch":3,"max_lag_seconds":0.1,` +
		`"behind":[{"group":"sounz","phase":"streaming","lag_seconds":0.21},{"group":"mail","phase":"seeding"}]}` + "\n"
	if got := w.Body.String(); got != want || w.Code != 503 {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestWrongRequests(t *testing.T) {
	for _, test := range []struct {
		method, target string
		code           int
		says           string
	}{
		{"GET", "/standby?max-lag=5", 400, "want a duration"},
		{"GET", "/standby?max-lag=", 400, "want a duration"},
		{"GET", "/standby?max-lag=-1s", 400, "not negative"},
		{"GET", "/standby?max-lag=soon", 400, `\"soon\"`},
		{"GET", "/standby?max-lag=1s&max-lag=1h", 400, "2 times"},
		{"GET", "/standby?maxlag=5s", 400, "takes max-lag"},
		{"GET", "/standby?max-lag=5s;x", 400, "can't be read"},
		{"GET", "/production?max-lag=5s", 400, "takes none"},
		{"GET", "/healthz?deep", 400, "takes none"},
		{"GET", "/?refresh=1", 400, "want off"},
		{"POST", "/standby", 405, "want GET"},
		{"PUT", "/", 405, "want GET"},
		{"DELETE", "/metrics", 405, "want GET"},
		{"TRACE", "/healthz", 405, "want GET"},
		{"GET", "/production/", 404, "nothing at"},
		{"GET", "/v1/status", 404, "nothing at"},
		{"POST", "/v1/pause", 404, "nothing at"},
		{"GET", "//metrics", 404, "nothing at"},
	} {
		s := serve(node())
		w := do(s, test.method, test.target)
		if w.Code != test.code || test.method == "GET" && !strings.Contains(w.Body.String(), test.says) {
			t.Errorf("%s %s: %d %s, want %d with %q", test.method, test.target, w.Code, w.Body, test.code, test.says)
		}
		if test.code == 405 && w.Header().Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("%s %s: Allow is %q", test.method, test.target, w.Header().Get("Allow"))
		}
		if s.calls.Load() != 0 {
			t.Errorf("%s %s: the daemon was asked", test.method, test.target)
		}
	}
}

func TestFailingStatus(t *testing.T) {
	s := serve(nil)
	s.err = errors.New("the catalog is closed")
	for _, path := range []string{"/", "/production", "/primary", "/standby", "/healthz"} {
		w := do(s, http.MethodGet, path)
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "the catalog is closed") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// A daemon that hangs, even one that does not heed the context, is no 200, and the
// calls that are stuck in it stay few.
func TestHangingStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var calls atomic.Int32
		s := New(Options{Patience: time.Second, Status: func(context.Context) (*control.Status, error) {
			calls.Add(1)
			<-release
			return node(), nil
		}})
		for range 3 * statusCalls {
			start := time.Now()
			w := do(s, http.MethodGet, "/healthz")
			if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "within 1s") {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if took := time.Since(start); took != time.Second {
				t.Fatalf("it took %s", took)
			}
		}
		if n := calls.Load(); n != statusCalls {
			t.Errorf("%d calls are stuck, want %d", n, statusCalls)
		}
		close(release)
		synctest.Wait()
		if w := do(s, http.MethodGet, "/healthz"); w.Code != http.StatusOK {
			t.Errorf("after that it answers %d %s", w.Code, w.Body)
		}
	})
}
