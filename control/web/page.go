package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"repld/control"
	"repld/control/view"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// pagePolicy lets the page show its own style and nothing else: no scripts, no
// other resources, no frames, no forms (Content Security Policy Level 3).
var pagePolicy = func() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

// refreshSeconds is how often the page loads itself again.
const refreshSeconds = 5

// pageData is what the template shows: words, escaped by it.
type pageData struct {
	Style   template.CSS
	Refresh int // seconds, 0 = never
	At      string
	Error   string // then there is nothing else
	Status  *control.Status
	Plan    string // the change of roles that is carried out, "" = none
	Peer    []row
	Groups  []pageGroup
	Health  []pageCondition
}

type row struct{ Label, Value string }

type pageGroup struct {
	Name, Phase string
	Rows        []row
	Barriers    []pageBarrier
}

type pageBarrier struct{ Stage, ID, Age, Confirmed, Note string }

type pageCondition struct{ Severity, Code, Group, Text, Hint, For string }

func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	values, err := parameters(r, "refresh")
	if err == nil && values.Has("refresh") && values.Get("refresh") != "off" {
		err = fmt.Errorf("refresh is %q: want off, or no such parameter", values.Get("refresh"))
	}
	if err != nil {
		refuse(w, r, http.StatusBadRequest, err.Error())
		return
	}
	now := s.clock.Now()
	data := pageData{Style: template.CSS(pageStyle), Refresh: refreshSeconds, At: now.UTC().Format("2006-01-02 15:04:05 UTC")}
	if values.Has("refresh") {
		data.Refresh = 0
	}
	code := http.StatusOK
	if status, err := s.snapshot(r.Context()); err != nil {
		code, data.Error = http.StatusServiceUnavailable, err.Error()
	} else {
		data.show(status, now)
	}
	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, data); err != nil {
		s.logger.Error("status page", "error", err)
		refuse(w, r, http.StatusInternalServerError, "the page can't be made")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Frame-Options", "DENY") // for browsers without frame-ancestors
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(code)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body.Bytes()) // whoever went away before needs no answer
	}
}

func (d *pageData) show(status *control.Status, now time.Time) {
	d.Status = status
	if p := status.Plan; p != nil {
		d.Plan = view.Plan(p)
	}
	if p := status.Peer; p != nil {
		d.Peer = peerRows(p, now)
	}
	for i := range status.Groups {
		d.Groups = append(d.Groups, groupOf(&status.Groups[i], now))
	}
	for _, c := range status.Health {
		shown := pageCondition{Severity: string(c.Severity), Code: string(c.Code), Group: c.Group, Text: c.Text, Hint: c.Hint}
		if c.Age > 0 {
			shown.For = view.Duration(c.Age)
		} else if !c.Since.IsZero() {
			shown.For = view.Duration(now.Sub(c.Since))
		}
		d.Health = append(d.Health, shown)
	}
}

func peerRows(p *control.Peer, now time.Time) []row {
	rows := []row{{"peer", strings.TrimSpace(p.Name + " " + p.Address)}, {"link", string(p.Link)}}
	if p.Status != "" {
		rows = append(rows, row{"status of the peer", string(p.Status)})
	}
	if p.RTT != nil {
		rows = append(rows, row{"round trip", fmt.Sprintf("%.2g ms", p.RTT.Duration().Seconds()*1000)})
	}
	if seen := age(p.LastSeenAge, p.LastSeen, now); seen != nil {
		rows = append(rows, row{"last seen", ago(seen)})
	}
	return rows
}

func groupOf(g *control.Group, now time.Time) pageGroup {
	shown := pageGroup{Name: g.Name, Phase: string(g.Phase)}
	add := func(label, format string, args ...any) {
		shown.Rows = append(shown.Rows, row{label, fmt.Sprintf(format, args...)})
	}
	if l := g.Lag; l == nil || l.Seconds == nil {
		add("lag", "unknown")
	} else {
		add("lag", "%s", view.Duration(l.Seconds.Duration()))
	}
	if l := g.Lag; l != nil && l.Bytes != nil {
		add("not applied", "%s of log", view.Bytes(*l.Bytes))
	}
	if l := g.Lag; l != nil && l.Files != nil {
		add("not applied", "%s", view.Count(*l.Files, "file"))
	}
	if seed := g.Seed; seed != nil && g.Phase == control.PhaseSeeding {
		add("first copy", "%s, %s so far", view.Count(seed.FilesDone, "file"), view.Bytes(seed.BytesDone))
		if seed.BytesTotal != nil {
			add("first copy in all", "%s", view.Bytes(*seed.BytesTotal))
		}
		if seed.ETA != nil {
			add("first copy done in", "%s", view.Duration(seed.ETA.Duration()))
		}
	}
	if t := g.Tree; t != nil {
		add("tree", "%s, %s", view.Count(t.Files, "file"), view.Bytes(t.Bytes))
	}
	if j := g.Journal; j != nil && j.LimitBytes != nil {
		add("journal", "%s of at most %s", view.Bytes(j.Bytes), view.Bytes(*j.LimitBytes))
	} else if j != nil {
		add("journal", "%s", view.Bytes(j.Bytes))
	}
	for _, t := range g.Trees {
		add("path of "+t.Name, "%s", t.Path)
	}
	for _, b := range []struct {
		stage   control.BarrierState
		barrier *control.Barrier
	}{{control.BarrierCaptured, g.Barriers.Captured}, {control.BarrierReceived, g.Barriers.Received}, {control.BarrierApplied, g.Barriers.Applied}} {
		shown.Barriers = append(shown.Barriers, barrierOf(string(b.stage), b.barrier, now))
	}
	return shown
}

func barrierOf(stage string, b *control.Barrier, now time.Time) pageBarrier {
	if b == nil {
		return pageBarrier{Stage: stage, ID: "none yet"}
	}
	shown := pageBarrier{
		Stage: stage, ID: b.ID.String(),
		Age: ago(age(b.CutAge, b.CutAt, now)), Confirmed: ago(age(b.ConfirmedAge, b.ConfirmedAt, now)),
	}
	var notes []string
	if b.Rung == "polled" {
		notes = append(notes, "not a consistent cut (polled)")
	}
	if n := len(b.Uncovered); n > 0 {
		notes = append(notes, view.Count(uint64(n), "file")+" uncovered")
	}
	shown.Note = strings.Join(notes, ", ")
	return shown
}

func ago(d *control.Seconds) string {
	if d == nil {
		return "unknown"
	}
	return view.Duration(d.Duration()) + " ago"
}
