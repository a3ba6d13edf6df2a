package config

import (
	"errors"
	"net/url"

	"github.com/goccy/go-yaml/ast"
)

// Redis is what only a Redis server has.
type Redis struct {
	Mode RedisMode
	// GatePort is the port of the loopback address from which the replica gets its stream,
	// on the standby, with [RedisGate]; 0 = one that is free, and the same one from then on.
	GatePort int
}

// RedisMode is what a Redis server is.
type RedisMode string

const (
	// RedisCache is a server whose keys can be made again: it isn't replicated, and is
	// flushed when its node is promoted.
	RedisCache RedisMode = "cache"
	// RedisGate is a server whose keys count: the standby's is a replica that is fed up to
	// the barrier.
	RedisGate RedisMode = "gate"
)

var redisLevel = &level{"redis", []string{"mode", "dsn", "dsn_file", "spool_limit", "gate_port", "start", "stop"}}

// redisGateKeys are those that a cache doesn't have.
var redisGateKeys = []string{"spool_limit", "gate_port", "stop"}

func (r *reader) redis(n ast.Node, group string, d *Database) {
	f, ok := r.block(n, redisLevel, group, d)
	if !ok {
		return
	}
	if v, ok := r.need(f, "mode", "redis", "gate (the standby's server is held at the barrier), or cache (nothing is replicated, and it is flushed when the node is promoted)"); ok {
		var mode string
		if r.text(v, &mode, redisMode) {
			d.Redis.Mode = RedisMode(mode)
		}
	}
	if d.Redis.Mode == RedisGate {
		d.Server.SpoolSize = DefaultSpoolSize
	}
	r.server(f, "redis", group, d, checkRedisDSN)
	maybe(r, f, "gate_port", &d.Redis.GatePort, parsePort)
	if d.Redis.Mode != RedisCache {
		return
	}
	for _, key := range redisGateKeys {
		if v, ok := f.get(key); ok {
			r.wrong(v.key, "", "redis.%s: a cache has none, it is of mode: gate", key)
		}
	}
}

func redisMode(s string) (string, error) {
	if s != string(RedisCache) && s != string(RedisGate) {
		return "", &valueError{found: s, want: string(RedisGate) + " or " + string(RedisCache)}
	}
	return s, nil
}

// checkRedisDSN accepts redis://HOST:PORT and unix:///PATH, without a password.
func checkRedisDSN(s string) (string, error) {
	u, err := url.Parse(s)
	known := err == nil && (u.Scheme == "redis" && u.Hostname() != "" || u.Scheme == "unix" && u.Host == "" && len(u.Path) > 1)
	if !known {
		// It isn't shown: it may hold a password.
		return "", errors.New(`want the address of a server such as "redis://127.0.0.1:6379" or "unix:///run/redis/redis-server.sock"`)
	}
	if u.User != nil {
		return "", errors.New("it holds a login; put it into a file of its own and name that with dsn_file")
	}
	return s, nil
}
