package alert

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// sendTimeout is how long one message may take where a [Sink] says nothing.
const sendTimeout = 30 * time.Second

// Sink is where messages go: a command or an HTTP service, exactly one of them.
type Sink struct {
	// Name tells sinks apart in conditions, events and across restarts; "" = "exec
	// PROGRAM" or "http HOST". A name that is there already gets a number.
	Name string
	// Exec is a program, found by its path, and its arguments.
	Exec []string
	// HTTP is a service.
	HTTP *HTTP
	// Timeout is how long one message may take; 0 = 30 s.
	Timeout time.Duration
	// AtMostEvery is the least time between the beginnings of two messages; 0 = none.
	AtMostEvery time.Duration
}

// HTTP is a service that takes messages.
type HTTP struct {
	URL     string // http or https; kept out of logs, for it may hold a secret
	Method  string // "" = POST
	Headers http.Header
	// HeadersFile is read before each message: lines of "Name: value" that replace
	// those of Headers; "" = none.
	HeadersFile string
}

// normalized checks sinks and fills in what they leave out.
func normalized(sinks []Sink) ([]Sink, error) {
	names := make(map[string]bool, len(sinks))
	list := make([]Sink, 0, len(sinks))
	for i, s := range sinks {
		if s.Timeout == 0 {
			s.Timeout = sendTimeout
		}
		if s.Timeout < 0 || s.AtMostEvery < 0 {
			return nil, fmt.Errorf("alert %d: a time is negative (timeout %s, at most every %s)", i+1, s.Timeout, s.AtMostEvery)
		}
		name, err := s.target()
		if err != nil {
			return nil, fmt.Errorf("alert %d: %w", i+1, err)
		}
		if s.Name == "" {
			s.Name = name
		}
		base := s.Name
		for n := 2; names[s.Name]; n++ {
			s.Name = fmt.Sprintf("%s #%d", base, n)
		}
		names[s.Name] = true
		list = append(list, s)
	}
	return list, nil
}

// target says in few words, without secrets, where a sink's messages go.
func (s *Sink) target() (string, error) {
	switch {
	case len(s.Exec) > 0 && s.HTTP != nil:
		return "", fmt.Errorf("there is a command and an HTTP service: want one of them")
	case len(s.Exec) > 0:
		if strings.ContainsRune(strings.Join(s.Exec, ""), 0) || s.Exec[0] == "" {
			return "", fmt.Errorf("the command is %q: want a program and its arguments", s.Exec)
		}
		return "exec " + s.Exec[0], nil
	case s.HTTP != nil:
		u, err := url.Parse(s.HTTP.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return "", fmt.Errorf("the address of the HTTP service can't be used: want http://… or https://… with a host")
		}
		return "http " + u.Host, nil
	}
	return "", fmt.Errorf("there is neither a command nor an HTTP service: want one of them")
}
