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
	"sync"
	"time"
)

// Bounds of an answer: bytes of a text, such as INFO with some thousand replicas, and
// texts of a list.
const (
	maxBulk = 1 << 20
	maxList = 1 << 10
)

// connection speaks RESP2, the protocol of Redis.
// (https://redis.io/docs/latest/develop/reference/protocol-spec/)
type connection struct {
	net.Conn
	r      *bufio.Reader
	stop   func() bool
	broken bool // what comes next isn't the answer to what is asked next
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
	c := &connection{Conn: raw, r: bufio.NewReaderSize(raw, 64<<10)}
	c.bind(ctx)
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

// bind has the connection break when ctx ends, in place of an earlier one.
func (c *connection) bind(ctx context.Context) {
	c.release()
	c.stop = context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
}

// release lets the connection outlive its context, and reports false if that has ended.
func (c *connection) release() bool {
	ok := c.stop == nil || c.stop()
	c.stop = nil
	return ok
}

// Close closes the connection.
func (c *connection) Close() error {
	c.release()
	return c.Conn.Close()
}

// answerError is what the server has said no with.
type answerError string

func (e answerError) Error() string { return string(e) }

// request is a command as it is sent.
func request(words ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b
}

// do sends a command and returns the answer: a line, a number as text, or a text; of a
// list the last text.
func (c *connection) do(words ...string) (string, error) {
	list, err := c.list(words...)
	if err != nil || len(list) == 0 {
		return "", err
	}
	return list[len(list)-1], nil
}

// list sends a command and returns the answer, a list of texts or a single one.
func (c *connection) list(words ...string) ([]string, error) {
	if _, err := c.Write(request(words...)); err != nil {
		c.broken = true
		return nil, err
	}
	list, err := c.answer(words[0])
	var no answerError
	c.broken = c.broken || err != nil && !errors.As(err, &no)
	return list, err
}

func (c *connection) answer(to string) ([]string, error) {
	kind, rest, err := c.line(to)
	if err != nil {
		return nil, err
	}
	if kind != '*' {
		text, err := c.text(to, kind, rest)
		return []string{text}, err
	}
	n, err := strconv.Atoi(rest)
	if err != nil || n > maxList {
		return nil, fmt.Errorf("it answered %s with a list of %s, want %d at most", to, rest, maxList)
	}
	var list []string
	var first error // a no within the list, behind which there is more
	for range n {
		if kind, rest, err = c.line(to); err != nil {
			return nil, err
		}
		text, err := c.text(to, kind, rest)
		var no answerError
		if err != nil && !errors.As(err, &no) {
			return nil, err
		}
		if first == nil {
			first = err
		}
		list = append(list, text)
	}
	return list, first
}

func (c *connection) line(to string) (kind byte, rest string, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, "", fmt.Errorf("it did not answer %s: %w", to, err)
	}
	text := strings.TrimSuffix(string(line), "\r\n")
	if text == "" {
		return 0, "", fmt.Errorf("it answered %s with an empty line", to)
	}
	return text[0], text[1:], nil
}

func (c *connection) text(to string, kind byte, rest string) (string, error) {
	switch kind {
	case '+', ':':
		return rest, nil
	case '-':
		return "", answerError(rest)
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < -1 || n > maxBulk {
			return "", fmt.Errorf("it answered %s with a text of %s bytes, want %d at most", to, rest, maxBulk)
		}
		if n < 0 {
			return "", nil
		}
		text := make([]byte, n+2)
		if _, err := io.ReadFull(c.r, text); err != nil {
			return "", fmt.Errorf("it did not answer %s: %w", to, err)
		}
		return string(text[:n]), nil
	}
	return "", fmt.Errorf("it answered %s with %q, which isn't Redis' protocol", to, string(kind)+rest[:min(len(rest), 40)])
}

// link is a connection that is kept open and made anew after it broke. One caller uses
// it at a time.
type link struct {
	at address

	mu   sync.Mutex
	conn *connection
}

// with calls do with the open connection. An error that isn't the server's own answer
// closes it. One that broke since it was used last is replaced, and do is called once
// more.
func (l *link) with(ctx context.Context, do func(c *connection) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		kept, err := l.try(ctx, do)
		if kept || ctx.Err() != nil {
			return err
		}
	}
	c, err := dial(ctx, l.at)
	if err != nil {
		return err
	}
	l.conn = c
	_, err = l.try(ctx, do)
	return err
}

// try calls do and reports whether the connection is still good.
func (l *link) try(ctx context.Context, do func(c *connection) error) (kept bool, err error) {
	l.conn.bind(ctx)
	err = do(l.conn)
	ended := !l.conn.release()
	if kept = !ended && !l.conn.broken; !kept {
		l.conn.Close()
		l.conn = nil
	}
	if ended && ctx.Err() != nil && err != nil {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return kept, err
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}
