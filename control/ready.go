package control

import (
	"context"
	"net/http"

	"repld/health"
	"repld/parity"
	"repld/ready"
)

// ReadyBackend is the part of [Backend] about readiness. A backend that doesn't have it
// answers that it is not in this version.
type ReadyBackend interface {
	// Ready finds out, on both nodes, whether a cutover would work now. It may take as long
	// as the check hooks do. A pair that is not ready is a report, no error.
	Ready(ctx context.Context) (*ready.Ready, error)
}

func (s *Server) handleReady(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/ready", answer(s.ready))
}

func (s *Server) ready(r *http.Request) (*ready.Ready, error) {
	b, ok := s.backend.(ReadyBackend)
	if !ok {
		return nil, Errorf(ExitUsage, "replctl ready is not in this version of the daemon")
	}
	report, err := b.Ready(r.Context())
	if err != nil {
		return nil, err
	}
	if report.Checks == nil {
		report.Checks = []ready.Check{}
	}
	if report.Parity == nil {
		report.Parity = []parity.Difference{}
	}
	return report, nil
}

// Ready is [ReadyBackend.Ready]. It takes as long as the check hooks do.
func (c *Client) Ready(ctx context.Context) (*ready.Ready, error) {
	return call[ready.Ready](ctx, c, 0, http.MethodGet, "/v1/ready", nil)
}

// NotReady returns the error of a pair that is not ready, nil for one that is.
func NotReady(r *ready.Ready) error {
	if r.Ready {
		return nil
	}
	return InTheWay(r.Failed(health.Critical))
}

// InTheWay returns the error of critical checks of a report that are not well.
func InTheWay(bad []ready.Check) error {
	if len(bad) == 0 {
		return Errorf(ExitRefused, "a cutover would not work now")
	}
	err := Errorf(ExitRefused, "a cutover would not work now: %s: %s", bad[0].Name, bad[0].Text)
	if bad[0].Hint != "" {
		err = err.WithHint("%s", bad[0].Hint)
	}
	return err
}
