package hook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// HTTP is a request.
type HTTP struct {
	Method   string // "" = GET
	URL      string
	Expect   int    // the status that is wanted; 0 = 200
	Contains string // a text that the answer must hold; "" = any answer will do
}

// String names the host only: the rest of an address may hold a secret.
func (h *HTTP) String() string {
	host := "a URL"
	if u, err := url.Parse(h.URL); err == nil {
		host = u.Host
	}
	return cmp.Or(h.Method, http.MethodGet) + " " + host
}

// bodyLimit is how much of an answer is searched for Contains, in bytes.
const bodyLimit = 1 << 20

// client follows no redirect, because a redirect may be what is expected. It keeps no
// connection, for the next request may be days away; and it uses no proxy, because what
// is asked is this machine or one beside it.
var client = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{DisableKeepAlives: true},
}

func (h *HTTP) request(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, cmp.Or(h.Method, http.MethodGet), h.URL, nil)
	if err != nil {
		return "", withoutAddress(err)
	}
	req.Header.Set("User-Agent", "repld")
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("%s: %w", req.URL.Host, withoutAddress(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	output := strings.TrimSpace(strings.ToValidUTF8(string(body[:min(len(body), outputLimit)]), "\uFFFD"))
	want := cmp.Or(h.Expect, http.StatusOK)
	switch {
	case resp.StatusCode != want:
		return output, fmt.Errorf("%s answers %s, want %d", req.URL.Host, resp.Status, want)
	case err != nil:
		return output, fmt.Errorf("%s: the answer can't be read: %w", req.URL.Host, err)
	case !strings.Contains(string(body), h.Contains):
		return output, fmt.Errorf("%s answers without the text %q in its first %d bytes", req.URL.Host, h.Contains, len(body))
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
