package web

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// run serves s on a loopback port until the test ends.
func run(t *testing.T, s *Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server: %v", err)
		}
		goleak.VerifyNone(t)
	})
	return ln.Addr().String()
}

func get(t *testing.T, c *http.Client, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServer(t *testing.T) {
	addr := run(t, serve(node()).Server)
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	for path, want := range map[string]int{"/": 200, "/standby": 200, "/production": 503, "/healthz": 200, "/metrics": 200, "/x": 404} {
		for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
			code, body := get(t, c, method, "http://"+addr+path)
			if code != want || (body == "") != (method != "GET") {
				t.Errorf("%s %s: %d with %d bytes, want %d", method, path, code, len(body), want)
			}
		}
	}
	if code, _ := get(t, c, "POST", "http://"+addr+"/standby"); code != 405 {
		t.Errorf("POST: %d", code)
	}
	// What HAProxy's httpchk sends when it is told nothing else.
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "OPTIONS /standby HTTP/1.0\r\n\r\n")
	reply, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(reply), "HTTP/1.0 200 OK\r\n") {
		t.Errorf("%q, %v", reply, err)
	}
}

// More connections than the limit wait, and are served once others go.
func TestConnectionsAreBounded(t *testing.T) {
	s := serve(node()).Server
	s.conns = 2
	addr := run(t, s)
	var idle []net.Conn
	for range s.conns {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		// Served, so that it is certain that the server has taken it.
		io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
	}
	late, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	io.WriteString(late, "GET /healthz HTTP/1.0\r\n\r\n")
	late.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := late.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatal("a connection above the limit was served")
	}
	idle[0].Close()
	late.SetReadDeadline(time.Now().Add(20 * time.Second))
	if reply, err := io.ReadAll(late); err != nil || !strings.HasPrefix(string(reply), "HTTP/1.0 200") {
		t.Fatalf("%q, %v", reply, err)
	}
}

func TestRunFailsWithItsListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := serve(node()).Run(context.Background(), ln); err == nil || !strings.Contains(err.Error(), ln.Addr().String()) {
		t.Errorf("%v", err)
	}
	goleak.VerifyNone(t)
}
