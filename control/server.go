package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"repld/health"
)

// requestLimit bounds the body of a request in bytes; the largest real one has
// a few hundred.
const requestLimit = 64 << 10

// stopGrace is how long calls that a stopping server cancelled have to say so.
const stopGrace = 2 * time.Second

// ServerOptions are the settings of a [Server].
type ServerOptions struct {
	Logger *slog.Logger // nil = discard
}

// Server answers on a control socket.
type Server struct {
	backend Backend
	ln      net.Listener
	logger  *slog.Logger
}

// NewServer returns a server of backend on ln, which it owns from now on.
func NewServer(ln net.Listener, backend Backend, o ServerOptions) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{backend: backend, ln: ln, logger: o.Logger}
}

// Run serves until ctx ends, then cancels the calls that are under way, closes
// the listener and returns nil. Any other end is an error and fatal.
func (s *Server) Run(ctx context.Context) error {
	srv := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close() // what is left is cut off
		}
	}()
	err := srv.Serve(s.ln)
	if ctx.Err() == nil {
		return fmt.Errorf("control socket: %w", err)
	}
	<-stopped
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", answer(s.status))
	mux.HandleFunc("POST /v1/barrier", answer(s.barrier))
	mux.HandleFunc("GET /v1/barriers", answer(s.barriers))
	mux.HandleFunc("POST /v1/verify", s.verify)
	mux.HandleFunc("POST /v1/pause", answer(func(r *http.Request) (*ApplyReply, error) {
		return &ApplyReply{Paused: true}, s.apply(r, s.backend.Pause)
	}))
	mux.HandleFunc("POST /v1/resume", answer(func(r *http.Request) (*ApplyReply, error) {
		return &ApplyReply{}, s.apply(r, s.backend.Resume)
	}))
	s.handleHistory(mux)
	s.handleDatabases(mux)
	s.handleRoles(mux)
	s.handleReady(mux)
	mux.HandleFunc("POST /v1/maintenance", answer(direct(s.backend.Maintenance)))
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("POST /v1/invite", answer(direct(s.backend.Invite)))
	mux.HandleFunc("POST /v1/join", answer(direct(s.backend.Join)))
	mux.HandleFunc("/", answer(func(r *http.Request) (*Status, error) {
		return nil, Errorf(ExitUsage, "this daemon has no call %s %s", r.Method, r.URL.Path).
			WithHint("replctl and the daemon are of different versions; use those of one release")
	}))
	return mux
}

func (s *Server) status(r *http.Request) (*Status, error) {
	status, err := s.backend.Status(r.Context())
	if err != nil {
		return nil, err
	}
	if status.Groups == nil {
		status.Groups = []Group{}
	}
	if status.Health == nil {
		status.Health = []health.Condition{}
	}
	return status, nil
}

func (s *Server) barrier(r *http.Request) (*BarrierReply, error) {
	var req BarrierRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if req.Wait == "" {
		req.Wait = BarrierCaptured
	}
	if _, err := ParseBarrierState(string(req.Wait)); err != nil {
		return nil, Errorf(ExitUsage, "%w", err)
	}
	if req.Timeout < 0 {
		return nil, Errorf(ExitUsage, "timeout is %s: want a positive duration, or 0 for no limit", req.Timeout.Duration())
	}
	group, err := s.group(r.Context(), req.Group)
	if err != nil {
		return nil, err
	}
	req.Group = group
	ctx := r.Context()
	if req.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, req.Timeout.Duration())
		defer cancel()
	}
	reply, err := s.backend.Barrier(ctx, req)
	if errors.Is(err, context.DeadlineExceeded) && ExitOf(err) == ExitTimeout {
		return nil, s.lateBarrier(r.Context(), req)
	}
	return reply, err
}

// lateBarrier says what a barrier in time was kept from by, as far as health knows.
func (s *Server) lateBarrier(ctx context.Context, req BarrierRequest) error {
	late := Errorf(ExitTimeout, "no barrier of group %s was %s within %s", req.Group, req.Wait, req.Timeout.Duration())
	status, err := s.backend.Status(ctx)
	if err != nil || len(status.Health) == 0 {
		hint := "replication goes on; ask again, or give --timeout more time"
		if req.Wait != BarrierCaptured {
			hint += "; what holds the other node up, its own status says"
		}
		return late.WithHint("%s", hint)
	}
	var texts []string
	for _, c := range status.Health {
		texts = append(texts, fmt.Sprintf("%s: %s", c.Code, c.Text))
	}
	return late.WithHint("health says %s", strings.Join(texts, "; "))
}

func (s *Server) barriers(r *http.Request) (*BarrierList, error) {
	q := r.URL.Query()
	req := BarriersRequest{Find: q.Get("find")}
	if v := q.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return nil, Errorf(ExitUsage, "limit is %q: want a number, or 0 for all", v)
		}
		req.Limit = n
	}
	var err error
	if req.Group, err = s.group(r.Context(), q.Get("group")); err != nil {
		return nil, err
	}
	list, err := func() (*BarrierList, error) {
		if req.Find != "" {
			return s.backend.Find(r.Context(), req)
		}
		return s.backend.Barriers(r.Context(), req)
	}()
	if err == nil && list.Barriers == nil {
		list.Barriers = []BarrierEntry{}
	}
	return list, err
}

func (s *Server) apply(r *http.Request, call func(context.Context, ApplyRequest) error) error {
	var req ApplyRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if req.Group != "" {
		if _, err := s.group(r.Context(), req.Group); err != nil {
			return err
		}
	}
	return call(r.Context(), req)
}

func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	var req VerifyRequest
	err := decode(r, &req)
	if err == nil {
		req.Group, err = s.group(r.Context(), req.Group)
	}
	if err != nil {
		fail(w, err)
		return
	}
	lines := newLineWriter(w)
	report, err := s.backend.Verify(r.Context(), req, func(p VerifyProgress) { _ = lines.write("progress", p) })
	if err != nil {
		lines.fail(err)
		return
	}
	if report.Differences == nil {
		report.Differences = []Difference{}
	}
	lines.last("report", report)
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var since Seconds
	if v := q.Get("since_seconds"); v != "" {
		if err := since.UnmarshalJSON([]byte(v)); err != nil || since < 0 {
			fail(w, Errorf(ExitUsage, "since_seconds is %q: want a number of seconds", v))
			return
		}
	}
	req := EventsRequest{Group: q.Get("group"), Since: since.Duration(), Follow: q.Get("follow") == "true"}
	if req.Group != "" {
		if _, err := s.group(r.Context(), req.Group); err != nil {
			fail(w, err)
			return
		}
	}
	lines := newLineWriter(w)
	if req.Follow {
		lines.flush() // the caller sees that it is connected before the first event
	}
	err := s.backend.Events(r.Context(), req, func(e Event) error {
		if req.Group != "" && e.Group != req.Group {
			return nil
		}
		return lines.write("event", e)
	})
	if err != nil {
		lines.fail(err)
		return
	}
	lines.last("done", true)
}

// group returns the name of the group that a request means.
func (s *Server) group(ctx context.Context, name string) (string, error) {
	status, err := s.backend.Status(ctx)
	if err != nil {
		return "", err
	}
	var names []string
	for _, g := range status.Groups {
		names = append(names, g.Name)
	}
	switch {
	case name == "" && len(names) == 1:
		return names[0], nil
	case slices.Contains(names, name):
		return name, nil
	case name == "":
		return "", Errorf(ExitUsage, "this node has %d groups: say which one with --group", len(names)).
			WithHint("groups: %s", strings.Join(names, ", "))
	}
	return "", Errorf(ExitUsage, "no group %q on this node", name).WithHint("groups: %s", strings.Join(names, ", "))
}

func decode(r *http.Request, v any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, requestLimit))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return Errorf(ExitUsage, "request body: %w", err)
	}
	return nil
}

// direct makes a function for [answer] of a backend's method that needs no group.
func direct[Q, A any](method func(context.Context, Q) (*A, error)) func(*http.Request) (*A, error) {
	return func(r *http.Request) (*A, error) {
		var req Q
		if err := decode(r, &req); err != nil {
			return nil, err
		}
		return method(r.Context(), req)
	}
}

// answer makes a handler of a call that returns one JSON document.
func answer[T any](call func(*http.Request) (*T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := call(r)
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		encode(w, v)
	}
}
