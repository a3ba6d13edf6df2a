package config

import (
	"errors"
	"net/url"

	"github.com/goccy/go-yaml/ast"
)

// Redis is what only a Redis server has.
type Redis struct {
	Mode RedisMode
}

// RedisMode is what a Redis server is.
type RedisMode string

// RedisCache is a server whose keys can be made again: it isn't replicated, and is
// flushed when its node is promoted.
const RedisCache RedisMode = "cache"

// redisGate is for a later version: a replica that is fed up to the barrier.
const redisGate = "gate"

var redisLevel = &level{"redis", []string{"mode", "dsn", "dsn_file", "start"}}

func (r *reader) redis(n ast.Node, group string, d *Database) {
	f, ok := r.block(n, redisLevel, group, d)
	if !ok {
		return
	}
	if v, ok := r.need(f, "mode", "redis", "cache (nothing is replicated, and it is flushed when the node is promoted)"); ok {
		var mode string
		if r.text(v, &mode, redisMode) {
			d.Redis.Mode = RedisMode(mode)
		}
	}
	r.server(f, "redis", group, d, checkRedisDSN)
}

func redisMode(s string) (string, error) {
	if s == redisGate {
		return "", errors.New("gate is " + notYet + "; for a server whose data counts put its directory, with appendonly yes, into a tree")
	}
	if s != string(RedisCache) {
		return "", &valueError{found: s, want: string(RedisCache)}
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
