package redis

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"repld/durable"
)

// loopback is where the gate listens, gateUser who the replica says it is.
const (
	loopback = "127.0.0.1"
	gateUser = "repld"
)

// access is how the replica gets to the gate, kept in the file "access" (JSON). A
// replica can't be told the path of a socket.
type access struct {
	Port     int    `json:"port"`
	Password string `json:"password"`
}

func loadAccess(dir string) (access, error) {
	var a access
	path := filepath.Join(dir, "access")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		a.Password = rand.Text()
		return a, a.save(dir)
	}
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(b, &a); err != nil || a.Password == "" {
		return a, fmt.Errorf("%s is not what was written: %w", path, err)
	}
	return a, nil
}

func (a access) save(dir string) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, "access"), b, 0o600)
}

// listen listens where the replica expects it. If somebody else took the port, another
// one is chosen, and the replica pointed there.
func (g *Gate) listen() (net.Listener, error) {
	g.mu.Lock()
	a := g.access
	g.mu.Unlock()
	port := g.opts.Port
	if port == 0 {
		port = a.Port
	}
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil && g.opts.Port == 0 {
		l, err = net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	}
	if err != nil {
		return nil, err
	}
	now := l.Addr().(*net.TCPAddr).Port
	if now == a.Port {
		return l, nil
	}
	first := a.Port == 0
	a.Port = now
	if err := a.save(g.opts.Dir); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	g.mu.Lock()
	g.access = a
	g.mu.Unlock()
	if !first {
		if err := g.update(func(st *gateState) { st.Point = true }); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}
