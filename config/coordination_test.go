package config

import (
	"testing"
	"time"

	"repld/lease/timing"
)

// fullCoordination and fullParity are those of testdata/good/full.yaml.
var (
	fullCoordination = Coordination{
		Etcd: &Etcd{
			Endpoints: []string{"https://10.0.0.3:2379", "https://slayer.example.net:2379", "https://[2001:db8::3]:2379"},
			TTL:       20 * time.Second, CA: "/etc/repld/etcd-ca.pem", Cert: "/etc/repld/etcd.pem", Key: "/etc/repld/etcd.key",
		},
		FailoverAfter: 30 * time.Second, DemoteWithin: 12 * time.Second, Watchdog: "/dev/watchdog",
		Timing: timing.Timing{
			TTL: 20 * time.Second, Drift: 200 * time.Millisecond, Kill: time.Second, Demote: 12 * time.Second,
			Hold: 6800 * time.Millisecond, Keepalive: 1700 * time.Millisecond, Attempt: 1700 * time.Millisecond, Watchdog: 13 * time.Second,
		},
	}
	fullParity = Parity{
		Files:    []string{"/etc/apache2/**", "/etc/{php,mysql}/**/*.ini"},
		Commands: [][]string{{"php", "-v"}, {"/usr/sbin/apache2ctl", "-M"}},
		Settings: []string{"join_buffer_size", "enable_hashjoin"},
	}
)

// What follows from the ttl alone.
func TestCoordinationDefaults(t *testing.T) {
	c, err := Parse("repld.yaml", []byte("designated: primary\ngroups: [{name: g, trees: [{name: t, path: /srv/t}]}]\n"+
		"coordination: {etcd: {endpoints: [\"http://127.0.0.1:2379\"]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	found := c.Coordination
	if found.Etcd.TTL != 10*time.Second || found.FailoverAfter != 10*time.Second || found.DemoteWithin != 5*time.Second ||
		found.Timing.Hold != 3900*time.Millisecond || found.Watchdog != "" {
		t.Errorf("found %+v", found)
	}
	if found.DatabasesWithin != 0 {
		t.Errorf("without databases %v are kept for them", found.DatabasesWithin)
	}
	c, err = Parse("repld.yaml", []byte("designated: primary\ngroups: [{name: g, trees: [{name: t, path: /srv/t}], databases: [{name: d, postgres: "+
		"{dsn: host=/run, start: [/bin/a], stop: [/bin/b]}}]}]\ncoordination: {etcd: {endpoints: [\"http://127.0.0.1:2379\"]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if found := c.Coordination; found.DatabasesWithin != 2500*time.Millisecond || found.DemoteWithin != 5*time.Second {
		t.Errorf("found %+v", found)
	}
}
