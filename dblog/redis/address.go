package redis

import (
	"errors"
	"net"
	"net/url"
	"strings"
)

// address is a server and the login there.
type address struct {
	network, at    string // for [net.Dial]
	user, password string // "" = none
}

// errAddress doesn't show what was found: it may hold a password.
var errAddress = errors.New(`want the address of a server such as "redis://127.0.0.1:6379" or "unix:///run/redis/redis-server.sock"`)

// parse reads redis://[USER:PASSWORD@]HOST:PORT and unix://[USER:PASSWORD@]/PATH.
func parse(dsn string) (address, error) {
	u, err := url.Parse(strings.TrimSpace(dsn))
	if err != nil || u.RawQuery != "" || u.Fragment != "" {
		return address{}, errAddress
	}
	var a address
	switch {
	case u.Scheme == "redis" && u.Hostname() != "" && (u.Path == "" || u.Path == "/"):
		port := u.Port()
		if port == "" {
			port = "6379"
		}
		a.network, a.at = "tcp", net.JoinHostPort(u.Hostname(), port)
	case u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/") && u.Path != "/":
		a.network, a.at = "unix", u.Path
	default:
		return address{}, errAddress
	}
	if u.User != nil {
		a.user = u.User.Username()
		a.password, _ = u.User.Password()
	}
	return a, nil
}
