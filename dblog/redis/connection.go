package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// maxBulk bounds an answer, in bytes: INFO replication with some thousand replicas.
const maxBulk = 1 << 20

// connection speaks RESP2, the protocol of Redis.
// (https://redis.io/docs/latest/develop/reference/protocol-spec/)
type connection struct {
	net.Conn
	r    *bufio.Reader
	stop func() bool
}

// dial connects and logs in; the connection breaks when ctx ends.
func dial(ctx context.Context, a address) (*connection, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, a.network, a.at)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, fmt.Errorf("it can't be reached: %w", err)
	}
	c := &connection{Conn: raw, r: bufio.NewReader(raw)}
	c.stop = context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	if a.password != "" {
		login := []string{"AUTH", a.password}
		if a.user != "" {
			login = []string{"AUTH", a.user, a.password}
		}
		if _, err := c.do(login...); err != nil {
			c.Close()
			return nil, fmt.Errorf("it refused the login: %w", err)
		}
	}
	return c, nil
}

// Close closes the connection.
func (c *connection) Close() error {
	c.stop()
	return c.Conn.Close()
}

// answerError is what the server has said no with.
type answerError string

func (e answerError) Error() string { return string(e) }

// do sends a command and returns the answer: a line, a number as text, or a text.
func (c *connection) do(words ...string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := io.WriteString(c.Conn, b.String()); err != nil {
		return "", err
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("it did not answer %s: %w", words[0], err)
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", fmt.Errorf("it answered %s with an empty line", words[0])
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+', ':':
		return rest, nil
	case '-':
		return "", answerError(rest)
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < -1 || n > maxBulk {
			return "", fmt.Errorf("it answered %s with a text of %s bytes, want %d at most", words[0], rest, maxBulk)
		}
		if n < 0 {
			return "", nil
		}
		text := make([]byte, n+2)
		if _, err := io.ReadFull(c.r, text); err != nil {
			return "", fmt.Errorf("it did not answer %s: %w", words[0], err)
		}
		return string(text[:n]), nil
	}
	return "", fmt.Errorf("it answered %s with %q, which isn't Redis' protocol", words[0], line[:min(len(line), 40)])
}
