package preflight

import (
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"repld/config"
	"repld/lease"
)

// coordination checks what automatic failover needs on this machine, and notes what is
// weak about it. etcd is not asked: it may be up by the time that it is needed.
func (k *check) coordination() {
	c := k.config.Coordination
	if c.Etcd == nil {
		return
	}
	if _, err := lease.TLS(c.Etcd.CA, c.Etcd.Cert, c.Etcd.Key); err != nil {
		k.wrong("coordination.etcd", "", "the certificates for etcd: %s", err)
	}
	if n := len(c.Etcd.Endpoints); n < 3 {
		k.note("coordination has %s of etcd: with fewer than three members on three machines, one that fails stops production", count(n, "endpoint"))
	}
	for _, endpoint := range c.Etcd.Endpoints {
		if u, err := url.Parse(endpoint); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
			k.note("coordination asks %s without encryption: who can change what travels there can make both nodes serve", endpoint)
			break
		}
	}
	if c.Watchdog == "" {
		k.note("coordination has no watchdog: services outlive their lease if the daemon is killed or a demote hook hangs")
	} else if st, err := os.Stat(c.Watchdog); err != nil {
		k.wrong("coordination.watchdog", "modprobe softdog makes one where the machine has none", "the watchdog %s: %s", c.Watchdog, cause(err))
	} else if st.Mode()&os.ModeCharDevice == 0 {
		k.wrong("coordination.watchdog", "", "the watchdog %s is no character device", c.Watchdog)
	}
	if len(k.config.Hooks.Demote) == 0 {
		k.note("coordination is configured, but there are no demote hooks: nothing stops the services when the lease is lost")
	}
	limit, keys := c.DemoteWithin, "coordination.demote_within"
	if c.DatabasesWithin > 0 {
		limit, keys = limit-c.DatabasesWithin, keys+" less databases_within"
	}
	if most := longest(k.config.Hooks.Demote); most > limit {
		k.note("the demote hooks may take %v by their time limits, but are killed after %v when the lease is lost (%s)", most, limit, keys)
	}
}

// longest is what hooks may take one after the other, with all attempts.
func longest(hooks []config.Hook) time.Duration {
	var sum time.Duration
	for _, h := range hooks {
		sum += h.Timeout*time.Duration(h.Retry+1) + time.Second*time.Duration(h.Retry)
	}
	return sum
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// parity checks that what is to be compared by its output can be run.
func (k *check) parity() {
	for _, command := range k.config.Parity.Commands {
		name := command[0]
		if strings.HasPrefix(name, "/") {
			if err := executable(name); err != nil {
				k.note("parity compares what %s writes, but here: %s", name, cause(err))
			}
		}
	}
}
