package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"repld/lease/timing"
)

// StartAlone says what a node that produced does after its start when its peer can't be
// asked whether it has taken over.
type StartAlone string

// What it may do.
const (
	StartHold  StartAlone = "hold"  // wait for the peer, or for an operator
	StartServe StartAlone = "serve" // go on: both may serve then
)

// Coordination is what decides which node may serve, where a third party does; the zero
// value: operators do.
type Coordination struct {
	Etcd *Etcd // nil = there is no coordination

	// FailoverAfter is how long the node that serves must be silent before the other one
	// takes over by itself.
	FailoverAfter time.Duration
	// DemoteWithin is what is to stop gets after the lease was lost, all together: the
	// demote hooks, then the database servers. DatabasesWithin is the part of it that is kept
	// for those; 0 = there are none.
	DemoteWithin, DatabasesWithin time.Duration
	// Watchdog is the device that resets this machine if the services outlive the lease;
	// "" = none.
	Watchdog string
	// Timing are the durations that follow from the ttl and DemoteWithin.
	Timing timing.Timing
}

// Etcd is a cluster of etcd.
type Etcd struct {
	Endpoints []string // URLs, all with one scheme
	TTL       time.Duration
	CA        string // file with certificates that sign the servers'; "" = those of the system
	Cert, Key string // files of this node's certificate; "" = it shows none
}

// DefaultLeaseTTL is the lease's time to live.
const DefaultLeaseTTL = 10 * time.Second

// maxEndpoints is more than any cluster of etcd has members.
const maxEndpoints = 16

var (
	coordinationLevel = &level{"coordination", []string{"etcd", "failover_after", "demote_within", "databases_within", "watchdog"}}
	etcdLevel         = &level{"etcd", []string{"endpoints", "ttl", "ca", "cert", "key"}}
)

func (r *reader) coordination(v field, alone StartAlone, groups []Group) Coordination {
	var c Coordination
	f, ok := r.mapping(v.value, coordinationLevel, v.label, "coordination.")
	if !ok {
		return c
	}
	r.note("coordination.", f)
	e, hasEtcd := r.need(f, "etcd", "coordination", "a cluster of etcd")
	var ttl field
	if hasEtcd {
		c.Etcd, ttl = r.etcd(e)
	}
	if w, ok := f.get("watchdog"); ok {
		r.text(w, &c.Watchdog, checkPath)
	}
	demote, hasDemote := f.get("demote_within")
	if hasDemote && !value(r, demote, &c.DemoteWithin, ParseDuration) {
		return c
	}
	if alone == StartServe {
		r.wrong(v.key, "leave start_alone out", "start_alone is serve, but with coordination the lease decides: want hold")
	}
	if c.Etcd == nil {
		return c
	}
	c.FailoverAfter = c.Etcd.TTL
	maybe(r, f, "failover_after", &c.FailoverAfter, ParseDuration)
	t, err := timing.Of(c.Etcd.TTL, c.DemoteWithin)
	var wrong *timing.Error
	switch {
	case errors.As(err, &wrong) && wrong.Demote:
		r.wrong(at(demote.value), "", "coordination.demote_within: %v", wrong)
	case errors.As(err, &wrong) && ttl.value != nil:
		r.wrong(at(ttl.value), "", "etcd.ttl: %v", wrong)
	case errors.As(err, &wrong): // the default is too short for what is to be done
		r.wrong(at(demote.value), "give etcd.ttl", "coordination.demote_within: %v for etcd.ttl", wrong)
	}
	c.Timing, c.DemoteWithin = t, t.Demote
	r.stopping(f, &c, groups)
	return c
}

// stopping reads what the database servers get of the time for demotion. A node that has
// lost its lease must be able to shut them down, and to start them with the next one.
func (r *reader) stopping(f fields, c *Coordination, groups []Group) {
	found := false
	for _, g := range groups {
		for _, d := range g.Databases {
			if d.Redis.Mode == RedisCache || d.Engine == "" {
				continue // nothing counts that is written there
			}
			found = true
			for _, command := range []struct {
				key  string
				argv []string
			}{{"start", d.Start}, {"stop", d.Stop}} {
				if key := command.key; len(command.argv) == 0 {
					r.errs = append(r.errs, (&Config{source: r.source}).Wrong("groups."+g.Name+".databases."+d.Name+"."+d.Engine,
						"for example "+key+": [/usr/bin/systemctl, "+key+", postgresql@15-main]",
						"%s is missing in the database %s/%s: with coordination a node that loses its lease shuts its servers down, and starts them when it has it again", key, g.Name, d.Name))
				}
			}
		}
	}
	within, given := f.get("databases_within")
	switch {
	case given && !value(r, within, &c.DatabasesWithin, ParseDuration):
	case given && !found:
		r.wrong(within.key, "leave it out", "coordination.databases_within is given, but no group has a database that is to be stopped")
	case given && (c.DatabasesWithin <= 0 || c.DatabasesWithin >= c.DemoteWithin) && c.DemoteWithin > 0:
		r.wrong(at(within.value), "", "coordination.databases_within: found %v, want more than 0 and less than demote_within, which is %v: the demote hooks get the rest", c.DatabasesWithin, c.DemoteWithin)
	case !given && found:
		c.DatabasesWithin = c.DemoteWithin / 2
	}
}

// etcd reads the cluster, and returns where its ttl stands.
func (r *reader) etcd(v field) (*Etcd, field) {
	e := &Etcd{TTL: DefaultLeaseTTL}
	f, ok := r.mapping(v.value, etcdLevel, "etcd", "etcd.")
	if !ok {
		return nil, field{}
	}
	r.note("coordination.etcd.", f)
	if v, ok := r.need(f, "endpoints", "etcd", "a list of URLs"); ok {
		e.Endpoints = r.endpoints(v)
	}
	ttl, hasTTL := f.get("ttl")
	if hasTTL && !value(r, ttl, &e.TTL, ParseDuration) {
		return nil, field{}
	}
	for key, into := range map[string]*string{"ca": &e.CA, "cert": &e.Cert, "key": &e.Key} {
		if v, ok := f.get(key); ok {
			r.text(v, into, checkPath)
		}
	}
	for _, pair := range [][2]string{{"cert", "key"}, {"key", "cert"}} {
		if _, ok := f.m[pair[0]]; ok {
			if _, ok := f.m[pair[1]]; !ok {
				r.wrong(f.m[pair[0]].key, "", "found %s without %s in etcd, want both or neither", pair[0], pair[1])
			}
		}
	}
	for _, key := range []string{"ca", "cert", "key"} {
		if v, ok := f.get(key); ok && len(e.Endpoints) > 0 && !strings.HasPrefix(e.Endpoints[0], "https://") {
			r.wrong(v.key, "", "etcd.%s is given, but the endpoints are http: want https, or no %s", key, key)
		}
	}
	return e, ttl
}

func (r *reader) endpoints(v field) []string {
	items := r.list(v)
	if shapeOf(v.value) == isList && (len(items) == 0 || len(items) > maxEndpoints) {
		r.wrong(at(v.value), "", "%s: found %d, want 1 to %d URLs of one cluster", v.label, len(items), maxEndpoints)
		return nil
	}
	var all []string
	for _, item := range items {
		var s string
		if !r.text(field{key: v.key, label: v.label, value: item}, &s, checkEndpoint) {
			continue
		}
		if len(all) > 0 && strings.HasPrefix(s, "https:") != strings.HasPrefix(all[0], "https:") {
			r.wrong(at(item), "", "%s: found both http and https, want one of them", v.label)
		}
		all = append(all, s)
	}
	return all
}

// checkEndpoint accepts the URL of a member of etcd.
func checkEndpoint(s string) (string, error) {
	u, err := url.Parse(s)
	bad := &valueError{found: s, want: "a URL such as https://10.0.0.3:2379"}
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		if checkHostPort(s, "", false) == nil {
			bad.hint = fmt.Sprintf("did you mean \"https://%s\"?", s)
		}
		return "", bad
	}
	if checkHostPort(u.Host, "", false) != nil {
		return "", bad
	}
	return u.Scheme + "://" + u.Host, nil
}
