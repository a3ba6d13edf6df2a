package web

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"repld/change"
	"repld/control"
)

// The limits of a [Server]. A load balancer asks every second or so on one
// connection, and so do a few more; whoever else comes waits in the kernel's queue.
const (
	connLimit   = 128
	headerLimit = 8 << 10 // bytes
	headerTime  = 5 * time.Second
	idleTime    = 10 * time.Second
	stopGrace   = 2 * time.Second
	statusCalls = 8 // at once
)

// Options are the settings of a [Server].
type Options struct {
	// Status is asked once for each answer, from several goroutines. It should
	// return when its context ends; if it does not, the answer is 503 all the same.
	Status func(context.Context) (*control.Status, error)
	// Patience is how long Status may take before the daemon counts as not working;
	// 0 = 2 s, which is less than load balancers wait.
	Patience time.Duration
	Logger   *slog.Logger // nil = discard
	Clock    change.Clock // nil = the system's
}

// Server answers HTTP requests about one node.
type Server struct {
	status   func(context.Context) (*control.Status, error)
	patience time.Duration
	logger   *slog.Logger
	clock    change.Clock
	conns    int
	slots    chan struct{} // one for each call of status
	metrics  http.Handler
}

// New returns a server; it starts nothing.
func New(o Options) *Server {
	if o.Patience == 0 {
		o.Patience = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = change.SystemClock()
	}
	s := &Server{
		status: o.Status, patience: o.Patience, logger: o.Logger, clock: o.Clock,
		conns: connLimit, slots: make(chan struct{}, statusCalls),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{s}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.metrics = promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(o.Logger.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: statusCalls / 2, // so that scrapes never keep a load balancer waiting
	})
	return s
}

// Run serves on ln, which it owns from now on, until ctx ends, then lets the
// answers under way finish and returns nil. Any other end is an error and fatal to
// the server only: replication does not depend on it.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       headerTime,
		WriteTimeout:      s.patience + headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    headerLimit,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	serving, cancel := context.WithCancel(ctx)
	go func() {
		defer close(stopped)
		<-serving.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close() // what is left is cut off
		}
	}()
	err := srv.Serve(netutil.LimitListener(ln, s.conns))
	cancel()
	<-stopped
	if ctx.Err() == nil {
		return fmt.Errorf("http endpoints on %s: %w", ln.Addr(), err)
	}
	return nil
}

// methods are those that every endpoint takes.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodOptions}

// allow is the Allow header (RFC 9110, section 10.2.1).
const allow = "GET, HEAD, OPTIONS"

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	endpoint, ok := map[string]func(http.ResponseWriter, *http.Request){
		"/":           s.page,
		"/production": s.production,
		"/primary":    s.production,
		"/standby":    s.standby,
		"/healthz":    s.healthz,
		"/metrics":    s.scrape,
	}[r.URL.Path]
	switch {
	case !ok:
		refuse(w, r, http.StatusNotFound, fmt.Sprintf("there is nothing at %q: want /, /production, /primary, /standby, /healthz or /metrics", r.URL.Path))
	case !slices.Contains(methods, r.Method):
		h.Set("Allow", allow)
		refuse(w, r, http.StatusMethodNotAllowed, fmt.Sprintf("the method is %q: want GET, HEAD or OPTIONS", r.Method))
	default:
		if r.Method == http.MethodOptions {
			h.Set("Allow", allow)
		}
		endpoint(w, r)
	}
}

func (s *Server) scrape(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		return
	}
	s.metrics.ServeHTTP(w, r)
}

// snapshot asks for the status, within the server's patience even of a Status that
// does not heed its context.
func (s *Server) snapshot(ctx context.Context) (*control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	late := fmt.Errorf("the daemon did not answer for its status within %s", s.patience)
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, late
	}
	type result struct {
		status *control.Status
		err    error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-s.slots }()
		status, err := s.status(ctx)
		done <- result{status, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("the daemon can't say its status: %w", r.err)
		}
		return r.status, nil
	case <-ctx.Done():
		return nil, late
	}
}
