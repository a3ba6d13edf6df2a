package alert

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// client follows no redirect: a POST would become a GET on the way. It keeps no
// connection, for the next message may be days away.
var client = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DisableKeepAlives:   true,
		TLSHandshakeTimeout: 10 * time.Second,
	},
}

func encode(m *Message) ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write the message as JSON: %w", err)
	}
	return append(b, '\n'), nil
}

// post sends m and returns the beginning of the answer. Its errors name the host
// only: the rest of the address may hold a secret.
func post(ctx context.Context, to *HTTP, m *Message) (output string, err error) {
	body, err := encode(m)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, cmp.Or(to.Method, http.MethodPost), to.URL, bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("the request can't be made: %w", withoutAddress(err))
	}
	req.Header = to.Headers.Clone()
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	if to.HeadersFile != "" {
		if err := addHeaders(req.Header, to.HeadersFile); err != nil {
			return "", err
		}
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "User-Agent": "repld"} {
		if req.Header.Get(name) == "" {
			req.Header.Set(name, value)
		}
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("service %s: %w", req.URL.Host, withoutAddress(err))
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, outputLimit)) // what came of it is good enough for a report
	output = strings.TrimSpace(strings.ToValidUTF8(string(answer), "\uFFFD"))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		err = fmt.Errorf("service %s answers %s, want 2xx", req.URL.Host, resp.Status)
		if output != "" {
			err = fmt.Errorf("%w: %s", err, output)
		}
		return output, err
	}
	return output, nil
}

// withoutAddress takes the URL out of an error of net/http.
func withoutAddress(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// addHeaders reads lines of "Name: value". Errors don't show them.
func addHeaders(h http.Header, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("file of headers: %w", err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.ContainsAny(name, " \t") || name == "" {
			return fmt.Errorf("file of headers %s: line %d is none, want \"Name: value\"", path, n)
		}
		h.Set(name, strings.TrimSpace(value))
	}
	return nil
}
