package binlog

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

// access is how the replica gets to the gate, kept in the file "access" (JSON). A
// replica connects by TCP: it can't be told the path of a socket.
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
		return a, saveAccess(dir, a)
	}
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(b, &a); err != nil || a.Password == "" {
		return a, fmt.Errorf("%s is not what was written: %w", path, err)
	}
	return a, nil
}

func saveAccess(dir string, a access) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, "access"), b, 0o600)
}

// listen listens where the replica expects it. If somebody else took the port, another
// one is chosen, and the replica pointed there.
func (g *Gate) listen() (net.Listener, error) {
	port := g.opts.Port
	if port == 0 {
		port = g.access.Port
	}
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil && g.opts.Port == 0 {
		l, err = net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	}
	if err != nil {
		return nil, err
	}
	now := l.Addr().(*net.TCPAddr).Port
	if now == g.access.Port {
		return l, nil
	}
	g.releasing.Lock()
	defer g.releasing.Unlock()
	first := g.access.Port == 0
	a := g.access
	a.Port = now
	if err := saveAccess(g.opts.Dir, a); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	g.mu.Lock()
	g.access = a
	st := g.state
	g.mu.Unlock()
	if !first {
		st.Point = true
		if err := g.save(st); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}
