package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
)

// failure is the body of an answer that failed.
type failure struct {
	Error *Error `json:"error"`
}

// serverError is [AsError] for a call that this server cancelled: the client
// was not interrupted, the daemon is stopping.
func serverError(err error) *Error {
	e := AsError(err)
	if e.Code == ExitInterrupted && errors.Is(err, context.Canceled) {
		return Errorf(ExitNoDaemon, "the daemon is stopping")
	}
	return e
}

func fail(w http.ResponseWriter, err error) {
	e := serverError(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(httpStatus(e.Code))
	encode(w, failure{e})
}

func httpStatus(code Exit) int {
	switch code {
	case ExitUsage:
		return http.StatusBadRequest
	case ExitNoDaemon:
		return http.StatusServiceUnavailable
	case ExitRefused, ExitDiffers:
		return http.StatusConflict
	case ExitPeer:
		return http.StatusBadGateway
	case ExitTimeout:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// lineWriter writes a stream of lines, each an object with one member.
type lineWriter struct {
	mu sync.Mutex
	w  http.ResponseWriter
	c  *http.ResponseController
}

func newLineWriter(w http.ResponseWriter) *lineWriter {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return &lineWriter{w: w, c: http.NewResponseController(w)}
}

func (l *lineWriter) write(member string, v any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := json.NewEncoder(l.w).Encode(map[string]any{member: v}); err != nil {
		return err
	}
	return l.c.Flush()
}

func (l *lineWriter) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.c.Flush() // the next write will say so
}

// last writes the line that ends the stream.
func (l *lineWriter) last(member string, v any) { _ = l.write(member, v) } // to nobody, if it fails

func (l *lineWriter) fail(err error) { l.last("error", serverError(err)) }

// encode writes an answer. If that fails, its receiver has gone.
func encode(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
