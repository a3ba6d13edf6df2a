package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"repld/change"
	"repld/control"
	"repld/control/view"
)

// Answer is the body of the role endpoints and of /healthz, in JSON. Why is there
// when OK is false.
type Answer struct {
	OK     bool               `json:"ok"`
	Wanted string             `json:"wanted"` // production, standby or healthy
	Why    string             `json:"why,omitempty"`
	Node   string             `json:"node,omitempty"`
	Role   control.Role       `json:"role,omitempty"`
	Status control.NodeStatus `json:"status,omitempty"`
	Epoch  *change.Epoch      `json:"epoch,omitempty"`
	MaxLag *control.Seconds   `json:"max_lag_seconds,omitempty"`
	Behind []Behind           `json:"behind,omitempty"` // the groups that keep a standby from its max-lag
}

// Behind is a group that is further behind than was asked for.
type Behind struct {
	Group string           `json:"group"`
	Phase control.Phase    `json:"phase"`
	Lag   *control.Seconds `json:"lag_seconds,omitempty"` // absent: not known
}

func (s *Server) production(w http.ResponseWriter, r *http.Request) {
	if _, err := parameters(r); err != nil {
		refuse(w, r, http.StatusBadRequest, err.Error())
		return
	}
	s.answer(w, r, string(control.RoleProduction), func(status *control.Status, a *Answer) {
		a.OK = status.Role == control.RoleProduction
		a.Why = fmt.Sprintf("this node does not serve: its role is %s", status.Role)
	})
}

func (s *Server) standby(w http.ResponseWriter, r *http.Request) {
	values, err := parameters(r, "max-lag")
	var limit *control.Seconds
	if err == nil {
		limit, err = maxLag(values)
	}
	if err != nil {
		refuse(w, r, http.StatusBadRequest, err.Error())
		return
	}
	s.answer(w, r, string(control.RoleStandby), func(status *control.Status, a *Answer) {
		a.MaxLag = limit
		a.OK, a.Why, a.Behind = standsBy(status, limit)
	})
}

// healthz is a watchdog's view: the daemon has answered for its status. Standing
// conditions don't matter here, because a restart mends none of them.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	if _, err := parameters(r); err != nil {
		refuse(w, r, http.StatusBadRequest, err.Error())
		return
	}
	s.answer(w, r, "healthy", func(_ *control.Status, a *Answer) { a.OK = true })
}

// standsBy decides /standby. A nil limit asks for the role only.
func standsBy(status *control.Status, limit *control.Seconds) (ok bool, why string, behind []Behind) {
	if status.Role != control.RoleStandby {
		return false, fmt.Sprintf("this node does not stand by: its role is %s", status.Role), nil
	}
	if limit == nil {
		return true, "", nil
	}
	if len(status.Groups) == 0 {
		return false, "no group is known yet", nil
	}
	for _, g := range status.Groups {
		b := Behind{Group: g.Name, Phase: g.Phase}
		if g.Lag != nil {
			b.Lag = g.Lag.Seconds
		}
		if b.Lag == nil || *b.Lag > *limit {
			behind = append(behind, b)
		}
	}
	if len(behind) == 0 {
		return true, "", nil
	}
	var parts []string
	for _, b := range behind {
		text := fmt.Sprintf("group %s (%s) is behind by an unknown time", b.Group, b.Phase)
		if b.Lag != nil {
			text = fmt.Sprintf("group %s (%s) is behind by %s", b.Group, b.Phase, view.Duration(b.Lag.Duration()))
		}
		parts = append(parts, text)
	}
	return false, fmt.Sprintf("%s: want at most %s", strings.Join(parts, ", "), limit.Duration()), behind
}

// parameters parses the query, which may have those parameters only, each once: a
// misspelt one must not answer as if it were not there.
func parameters(r *http.Request, known ...string) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("the query can't be read: %w", err)
	}
next:
	for name, given := range values {
		if len(given) > 1 {
			return nil, fmt.Errorf("parameter %q is there %d times: want it once", name, len(given))
		}
		for _, k := range known {
			if name == k {
				continue next
			}
		}
		if len(known) == 0 {
			return nil, fmt.Errorf("parameter %q is unknown: %s takes none", name, r.URL.Path)
		}
		return nil, fmt.Errorf("parameter %q is unknown: %s takes %s", name, r.URL.Path, strings.Join(known, ", "))
	}
	return values, nil
}

func maxLag(values url.Values) (*control.Seconds, error) {
	if !values.Has("max-lag") {
		return nil, nil
	}
	text := values.Get("max-lag")
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return nil, fmt.Errorf("max-lag is %q: want a duration that is not negative, such as 5s, 500ms or 1m30s", text)
	}
	limit := control.Seconds(d)
	return &limit, nil
}

// answer asks for the status and writes what decide makes of it.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, wanted string, decide func(*control.Status, *Answer)) {
	a := Answer{Wanted: wanted}
	status, err := s.snapshot(r.Context())
	if err != nil {
		a.Why = err.Error()
	} else {
		a.Node, a.Role, a.Status, a.Epoch = status.Node, status.Role, status.Status, &status.Epoch
		decide(status, &a)
	}
	code := http.StatusServiceUnavailable
	if a.OK {
		code, a.Why = http.StatusOK, ""
	}
	writeJSON(w, r, code, a)
}

// refuse answers a request that asks for nothing that exists.
func refuse(w http.ResponseWriter, r *http.Request, code int, text string) {
	writeJSON(w, r, code, map[string]string{"error": text})
}

func writeJSON(w http.ResponseWriter, r *http.Request, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		code, body = http.StatusInternalServerError, []byte(`{"error":"the answer can't be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if r.Method == http.MethodGet { // HEAD and OPTIONS have no content
		_, _ = w.Write(append(body, '\n')) // whoever went away before needs no answer
	}
}
