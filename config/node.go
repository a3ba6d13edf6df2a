package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// config reads the whole file; root is nil after an error.
func (r *reader) config(root ast.Node) *Config {
	c := &Config{
		Listen: DefaultListen, State: DefaultState, Control: DefaultControl, StartAlone: StartHold,
		Live: Live{DiskReserve: DefaultReserve()},
	}
	if root == nil {
		return c
	}
	f, ok := r.mapping(root, topLevel, "the configuration", "")
	if !ok {
		return c
	}
	r.note("", f)
	if v, ok := f.get("node"); ok {
		r.text(v, &c.Node, checkName)
	}
	if v, ok := r.need(f, "designated", "the configuration", "primary or secondary"); ok {
		value(r, v, &c.Designated, oneOf(Primary, Secondary))
	}
	if v, ok := f.get("listen"); ok {
		r.text(v, &c.Listen, checkListen)
	}
	if v, ok := f.get("http"); ok {
		r.text(v, &c.HTTP, checkListen)
	}
	if v, ok := f.get("control"); ok {
		r.text(v, &c.Control, checkSocket)
	}
	state := f.at
	if v, ok := f.get("state"); ok {
		state = v.value.GetToken()
		r.text(v, &c.State, checkPath)
	}
	r.place(placed{what: "the state directory", path: c.State, at: state, is: placeState})
	maybe(r, f, "disk_reserve", &c.DiskReserve, ParseReserve)
	maybe(r, f, "log_level", &c.LogLevel, parseLevel)
	maybe(r, f, "start_alone", &c.StartAlone, oneOf(StartHold, StartServe))
	if v, ok := f.get("peer"); ok {
		c.Peer = r.peer(v, c.Node)
	}
	if v, ok := r.need(f, "groups", "the configuration", "a list of groups"); ok {
		c.Groups = r.groups(v)
	}
	if v, ok := f.get("hooks"); ok {
		c.Hooks = r.hooks(v)
	}
	if v, ok := f.get("coordination"); ok {
		c.Coordination = r.coordination(v, c.StartAlone, c.Groups)
	}
	if v, ok := f.get("parity"); ok {
		c.Parity = r.parity(v)
	}
	if v, ok := f.get("alerts"); ok {
		for i, item := range r.list(v) {
			c.Alerts = append(c.Alerts, r.alert(item, fmt.Sprintf("alerts.%d.", i)))
		}
	}
	r.relations()
	return c
}

func parseLevel(s string) (*slog.Level, error) {
	words := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	if l, ok := words[s]; ok {
		return &l, nil
	}
	_, err := oneOf("debug", "info", "warn", "error")(s)
	return nil, err
}

func (r *reader) peer(v field, node string) Peer {
	var p Peer
	f, ok := r.mapping(v.value, peerLevel, v.label, "peer.")
	if !ok {
		return p
	}
	r.note("peer.", f)
	if name, ok := r.need(f, "name", "peer", "the other node's name"); ok && r.text(name, &p.Name, checkName) && p.Name == node {
		r.wrong(at(name.value), "", "peer.name is %s, the name of this node: want the other node's", quote(p.Name))
	}
	if address, ok := r.need(f, "address", "peer", "the other node's host:port"); ok {
		r.text(address, &p.Address, checkAddress)
	}
	return p
}

func (r *reader) alert(n ast.Node, key string) Alert {
	a := Alert{AtMostEvery: DefaultAtMostEvery, Timeout: DefaultTimeout}
	f, ok := r.mapping(n, alertLevel, "an alert", "")
	if !ok {
		return a
	}
	r.note(key, f)
	exec, byExec := f.get("exec")
	http, byHTTP := f.get("http")
	switch {
	case byExec && byHTTP:
		r.wrong(http.key, "make it two alerts", "found exec and http in one alert, want one of them")
	case byExec:
		a.Exec = r.command(exec)
	case byHTTP:
		r.alertHTTP(http, &a)
	case f.m["exec"].key == nil && f.m["http"].key == nil:
		r.wrong(f.at, "", "found neither exec nor http in an alert, want one of them")
	}
	maybe(r, f, "at_most_every", &a.AtMostEvery, ParseDuration)
	maybe(r, f, "timeout", &a.Timeout, ParseDuration)
	return a
}

// command reads a program with its arguments.
func (r *reader) command(v field) []string {
	words := r.texts(v, checkArgument)
	if list, ok := v.value.(*ast.SequenceNode); ok {
		switch {
		case len(list.Values) == 0:
			r.wrong(at(v.value), "", "%s is empty, want a program and its arguments", v.label)
		case len(words) == len(list.Values) && !strings.HasPrefix(words[0], "/"):
			r.wrong(at(list.Values[0]), "", "%s: found %s, want the absolute path of a program", v.label, quote(words[0]))
		}
	}
	return words
}

func (r *reader) alertHTTP(v field, a *Alert) {
	f, ok := r.mapping(v.value, alertHTTPLevel, v.label, "http.")
	if !ok {
		return
	}
	if post, ok := r.need(f, "post", "http", "the URL to which the alert is sent"); ok {
		r.text(post, &a.Post, checkURL)
	}
	if file, ok := f.get("headers_file"); ok {
		r.text(file, &a.HeadersFile, checkPath)
	}
	headers, ok := f.get("headers")
	if !ok || !r.isShape(headers.value, headers.label, isMapping) {
		return
	}
	for _, pair := range pairs(headers.value) {
		h := Header{Name: pair.Key.GetToken().Value}
		if !isHeaderName(h.Name) {
			r.wrong(pair.Key.GetToken(), "", "%s: found %s, want the name of a header", headers.label, quote(h.Name))
		}
		if r.text(field{label: headers.label + "." + h.Name, value: pair.Value}, &h.Value, checkHeader) {
			a.Headers = append(a.Headers, h)
		}
	}
}

func checkURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", &valueError{found: s, want: "a URL such as https://ops.example.net/alerts"}
	}
	return s, nil
}
