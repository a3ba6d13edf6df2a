package web

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"repld/control"
	"repld/health"
)

func TestPage(t *testing.T) {
	s := serve(node())
	w := do(s, http.MethodGet, "/")
	body := w.Body.String()
	if w.Code != 200 || s.calls.Load() != 1 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d, %v", w.Code, w.Header())
	}
	for _, want := range []string{
		"<title>standby – slayer – repld</title>", "<h1>slayer: standby</h1>", `<html lang="en">`, `<meta http-equiv="refresh" content="5">`,
		"megadeth 10.0.0.2:7440", "0.4 ms", "Group sounz: streaming", "Group mail: seeding", "3-812", "3-811", "1.5 s ago", "0.21 s",
		"1 file uncovered", "none yet", "<strong>warning: barrier-late</strong> in group sounz, for 12 s", "What to do: look", "/data/sounz",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
	if off := do(s, http.MethodGet, "/?refresh=off").Body.String(); strings.Contains(off, "http-equiv") {
		t.Error("the page refreshes itself though it was told not to")
	}
}

// The style is what the policy allows, and there is nothing else that loads.
func TestPagePolicy(t *testing.T) {
	w := do(serve(node()), http.MethodGet, "/")
	body := w.Body.String()
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(body)
	if style == nil {
		t.Fatal("no style")
	}
	sum := sha256.Sum256([]byte(style[1]))
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if got := w.Header().Get("Content-Security-Policy"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if found := regexp.MustCompile(`(?i)<script|<link|<img|<iframe|\ssrc=|\sstyle=|\son\w+=|url\(|@import|https?://`).FindString(body); found != "" {
		t.Errorf("the page has %q", found)
	}
}

func TestPageEscapes(t *testing.T) {
	const evil = `"><script>alert(1)</script>`
	status := node()
	status.Node, status.Version = evil, evil
	status.Peer.Name = evil
	status.Groups[0].Name = evil
	status.Groups[0].Trees[0].Path = evil
	status.Cause, status.Why = evil, evil
	status.Plan = &control.RolePlan{Kind: evil, Step: evil, Failure: evil}
	status.Health = []health.Condition{{Code: evil, Severity: evil, Group: evil, Text: evil, Hint: evil}}
	body := do(serve(status), http.MethodGet, "/").Body.String()
	if strings.Contains(body, "<script") || strings.Contains(body, `"">`) {
		t.Error(body)
	}
	if n := strings.Count(body, "&lt;script&gt;alert(1)"); n < 14 {
		t.Errorf("it is shown %d times, escaped", n)
	}
}

// TestPageOfANodeThatIsDown says why, and how far a change of roles has come.
func TestPageOfANodeThatIsDown(t *testing.T) {
	status := node()
	status.Role, status.Status = control.RoleDown, control.StatusDown
	status.Cause, status.Why = control.DownPlan, "a cutover stops its services"
	status.Plan = &control.RolePlan{Kind: "cutover", Step: "demote", Failure: "the hook failed", Back: true}
	body := do(serve(status), http.MethodGet, "/").Body.String()
	for _, want := range []string{"<p>plan: a cutover stops its services</p>", "<p>change of roles: cutover is taken back, at step demote: the hook failed</p>"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in the page\n%s", want, body)
		}
	}
	if body = do(serve(node()), http.MethodGet, "/").Body.String(); strings.Contains(body, "change of roles") || strings.Contains(body, "<p>:") {
		t.Errorf("a node that serves in peace says\n%s", body)
	}
}

func TestPageWithoutStatus(t *testing.T) {
	s := serve(nil)
	s.err = errors.New("the <catalog> is closed")
	w := do(s, http.MethodGet, "/")
	if body := w.Body.String(); w.Code != 503 || !strings.Contains(body, "the &lt;catalog&gt; is closed") || !strings.Contains(body, "http-equiv") {
		t.Errorf("%d %s", w.Code, body)
	}
}

func TestPageOfALonelyNode(t *testing.T) {
	body := do(serve(&control.Status{Node: "slayer", Role: control.RoleDown, Status: control.StatusDown}), http.MethodGet, "/").Body.String()
	for _, want := range []string{"No peer is known yet.", "No group is known yet.", "All is well."} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q", want)
		}
	}
}
