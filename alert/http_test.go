package alert

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"repld/health"
)

func TestPost(t *testing.T) {
	var got *http.Request
	var body Message
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, strings.Repeat("ok", outputLimit))
	}))
	file := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(file, []byte("# secret\nAuthorization: Bearer x:y\n\nX-Team:  night  \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := &HTTP{URL: s.URL + "/hook?token=t", Headers: http.Header{"X-Team": {"day"}, "X-Other": {"o"}}, HeadersFile: file}
	output, err := post(t.Context(), to, testMessage())
	if err != nil || len(output) != outputLimit {
		t.Fatalf("%d bytes, %v", len(output), err)
	}
	h := got.Header
	if got.Method != http.MethodPost || got.URL.RequestURI() != "/hook?token=t" || h.Get("Content-Type") != "application/json" || h.Get("User-Agent") != "repld" ||
		h.Get("Authorization") != "Bearer x:y" || h.Get("X-Team") != "night" || h.Get("X-Other") != "o" {
		t.Errorf("%s %s %v", got.Method, got.URL, h)
	}
	if body.Code != health.DiskLow || body.Node != "slayer" || len(body.Changes) != 2 || body.Changes[1].Times != 2 {
		t.Errorf("%+v", body)
	}
	to.Method, to.Headers, to.HeadersFile = http.MethodPut, http.Header{"Content-Type": {"text/json"}, "Host": {"alerts.example"}}, ""
	if _, err := post(t.Context(), to, testMessage()); err != nil || got.Method != http.MethodPut || got.Header.Get("Content-Type") != "text/json" || got.Host != "alerts.example" {
		t.Errorf("%s to %s %v, %v", got.Method, got.Host, got.Header, err)
	}
	s.Close()
	goleak.VerifyNone(t)
}

func TestPostFails(t *testing.T) {
	hang := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/500/secret", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	})
	mux.HandleFunc("/302/secret", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/hang/secret", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/ok", func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") })
	s := httptest.NewServer(mux)
	defer s.Close()
	defer close(hang)
	closed := httptest.NewServer(nil)
	closed.Close()
	bad := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(bad, []byte("X-A: b\nBearer hidden\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		to   HTTP
		want string
	}{
		{HTTP{URL: s.URL + "/500/secret"}, "answers 500 Internal Server Error, want 2xx: out of order"},
		{HTTP{URL: s.URL + "/302/secret"}, "answers 302 Found"},
		{HTTP{URL: s.URL + "/hang/secret"}, "deadline exceeded"},
		{HTTP{URL: closed.URL + "/secret"}, "connection refused"},
		{HTTP{URL: s.URL + "/500/secret", Method: "a b"}, "can't be made"},
		{HTTP{URL: s.URL + "/500/secret", HeadersFile: "/nonexistent"}, "file of headers"},
		{HTTP{URL: s.URL + "/500/secret", HeadersFile: bad}, "line 2 is none"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if strings.Contains(test.to.URL, "hang") {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		}
		_, err := post(ctx, &test.to, testMessage())
		cancel()
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v, want %s", test.to.URL, err, test.want)
		}
	}
}

func TestSinks(t *testing.T) {
	for _, test := range []struct {
		sink Sink
		want string
	}{
		{Sink{}, "neither"},
		{Sink{Exec: []string{"/bin/true"}, HTTP: &HTTP{URL: "http://x"}}, "want one of them"},
		{Sink{Exec: []string{""}}, "want a program"},
		{Sink{Exec: []string{"/bin/true", "a\x00b"}}, "want a program"},
		{Sink{HTTP: &HTTP{URL: "ftp://x/secret"}}, "want http"},
		{Sink{HTTP: &HTTP{URL: "http:///secret"}}, "with a host"},
		{Sink{HTTP: &HTTP{URL: "secret\x00"}}, "can't be used"},
		{Sink{Exec: []string{"/bin/true"}, Timeout: -1}, "negative"},
	} {
		_, err := New(Options{Board: health.NewBoard(nil), Sinks: []Sink{{Exec: []string{"/bin/true"}}, test.sink}})
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "alert 2: ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v, want %s", test.sink, err, test.want)
		}
	}
	list, err := normalized([]Sink{
		{Exec: []string{"/bin/mail", "a"}}, {Exec: []string{"/bin/mail", "b"}}, {HTTP: &HTTP{URL: "https://user:secret@ops.example:8443/secret"}}, {Name: "exec /bin/mail #2", Exec: []string{"x"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range list {
		names = append(names, s.Name)
		if s.Timeout != sendTimeout {
			t.Errorf("%s: timeout %s", s.Name, s.Timeout)
		}
	}
	if got := strings.Join(names, ", "); got != "exec /bin/mail, exec /bin/mail #2, http ops.example:8443, exec /bin/mail #2 #2" {
		t.Error(got)
	}
}

// One whole way, with a real command and a real service.
func TestRunForReal(t *testing.T) {
	bodies := make(chan Message, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m Message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		bodies <- m
	}))
	defer s.Close()
	dir := t.TempDir()
	delivered := make(chan Delivery, 10)
	b := health.NewBoard(nil)
	a, err := New(Options{Node: "slayer", Board: b, State: filepath.Join(dir, "alerts.json"), Delivered: func(d Delivery) { delivered <- d }, Sinks: []Sink{
		{Exec: []string{script(t, `echo "$REPLD_KIND $REPLD_CODE" >> "$1"`), filepath.Join(dir, "out")}}, {HTTP: &HTTP{URL: s.URL}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	for _, do := range []func(){func() { raise(b, health.LinkDown) }, func() { b.Resolve(health.LinkDown, "", "") }} {
		do()
		for range 2 {
			select {
			case d := <-delivered:
				if d.Err != nil || !strings.Contains(d.Text(), "was sent to ") {
					t.Fatal(d.Text())
				}
			case <-time.After(30 * time.Second):
				t.Fatal("nothing was delivered")
			}
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := string(mustRead(t, dir, "out")); got != "raised link-down\nresolved link-down\n" {
		t.Errorf("%q", got)
	}
	if first, second := <-bodies, <-bodies; first.Kind != health.Raised || second.Kind != health.Resolved || second.Stood <= 0 {
		t.Errorf("%+v, %+v", first, second)
	}
	if got := string(mustRead(t, dir, "alerts.json")); !strings.Contains(got, `"version":1`) || strings.Contains(got, "link-down") {
		t.Error(got)
	}
}
