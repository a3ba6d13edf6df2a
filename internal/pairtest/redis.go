package pairtest

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Redis is a [Database] on a Redis server: a table is one of its databases, and what an
// operation has put there a hash, pair:WRITER:OPERATION, from file to digest. A transaction
// is MULTI and EXEC, with SELECT within.
type Redis struct {
	Socket string // path of the server's
}

// Create is [Database.Create].
func (Redis) Create(context.Context) error { return nil }

// Exec runs a command, of words without spaces.
func (r Redis) Exec(ctx context.Context, command string) error {
	_, err := r.ask(ctx, command)
	return err
}

func (r Redis) ask(ctx context.Context, command string) (any, error) {
	c, err := r.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.do(ctx, strings.Fields(command)...)
}

// Sound returns a digest of all keys; the server must allow DEBUG.
func (r Redis) Sound(ctx context.Context) (string, error) {
	answer, err := r.ask(ctx, "DEBUG DIGEST")
	return fmt.Sprintf("DEBUG DIGEST is %v", answer), err
}

// Session is [Database.Session].
func (r Redis) Session(ctx context.Context, _ bool) (Session, error) {
	c, err := r.dial(ctx)
	if err != nil {
		return nil, err
	}
	return redisSession{c}, nil
}

type redisSession struct{ c *redisConn }

func (s redisSession) Close() { _ = s.c.Close() } // nothing is lost with it

// Commit is [Session.Commit].
func (s redisSession) Commit(ctx context.Context, put []Row, writer int, remove int64) error {
	commands := [][]string{{"MULTI"}}
	for i := range Tables {
		commands = append(commands, []string{"SELECT", strconv.Itoa(i)})
		for _, r := range put {
			if r.File%Tables == i {
				commands = append(commands, []string{"HSET", redisKey(r.Writer, r.Op), strconv.Itoa(r.File), hex.EncodeToString(r.Digest[:])})
			}
		}
		if remove > 0 {
			commands = append(commands, []string{"DEL", redisKey(writer, remove)})
		}
	}
	answers, err := s.c.pipeline(ctx, append(commands, []string{"EXEC"}))
	if err != nil {
		return err
	}
	list, ok := answers[len(answers)-1].([]any)
	if !ok || len(list) != len(commands)-1 {
		return fmt.Errorf("EXEC was answered with %v, want what %d commands did", answers[len(answers)-1], len(commands)-1)
	}
	for _, a := range list {
		if err, failed := a.(error); failed {
			return err
		}
	}
	return nil
}

func redisKey(writer int, op int64) string { return fmt.Sprintf("pair:%d:%d", writer, op) }

// redisRows returns all keys and hashes of the databases, at one instant.
const redisRows = `local list = {}
for t = 0, ARGV[1] - 1 do
  redis.call('SELECT', t)
  for _, key in ipairs(redis.call('KEYS', 'pair:*')) do
    local hash = redis.call('HGETALL', key)
    for i = 1, #hash, 2 do
      table.insert(list, key .. ':' .. hash[i] .. ':' .. hash[i + 1])
    end
  end
end
return list`

// Rows is [Database.Rows].
func (r Redis) Rows(ctx context.Context) ([]Row, error) { return r.RowsFrom(ctx, 0) }

// RowsFrom returns the rows of writers from first on, as [Database.Rows] does.
func (r Redis) RowsFrom(ctx context.Context, first int) ([]Row, error) {
	c, err := r.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	answer, err := c.do(ctx, "EVAL", redisRows, "0", strconv.Itoa(Tables))
	if err != nil {
		return nil, err
	}
	texts, _ := answer.([]any)
	var list []Row
	for _, v := range texts {
		text, _ := v.(string)
		var row Row
		var digest string
		parts := strings.Split(text, ":")
		if len(parts) != 5 {
			return nil, fmt.Errorf("a row is %q, want five parts", text)
		}
		if _, err := fmt.Sscan(strings.Join(parts[1:], " "), &row.Writer, &row.Op, &row.File, &digest); err != nil {
			return nil, fmt.Errorf("a row is %q: %w", text, err)
		}
		b, err := hex.DecodeString(digest)
		if err != nil || len(b) != len(row.Digest) {
			return nil, fmt.Errorf("a row is %q, want a digest", text)
		}
		copy(row.Digest[:], b)
		if row.Writer >= first {
			list = append(list, row)
		}
	}
	return list, nil
}

// redisConn speaks Redis' protocol, RESP2.
type redisConn struct {
	net.Conn
	r *bufio.Reader
}

func (r Redis) dial(ctx context.Context) (*redisConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", r.Socket)
	if err != nil {
		return nil, err
	}
	return &redisConn{c, bufio.NewReader(c)}, nil
}

func (c *redisConn) do(ctx context.Context, words ...string) (any, error) {
	answers, err := c.pipeline(ctx, [][]string{words})
	if err != nil {
		return nil, err
	}
	return answers[0], nil
}

// pipeline sends commands at once and returns their answers: texts, lists, nil. One that
// is an error ends it.
func (c *redisConn) pipeline(ctx context.Context, commands [][]string) ([]any, error) {
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	var b []byte
	for _, words := range commands {
		b = fmt.Appendf(b, "*%d\r\n", len(words))
		for _, w := range words {
			b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
		}
	}
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	var answers []any
	var first error
	for range commands {
		a, err := c.answer()
		if err != nil {
			return nil, err
		}
		if failed, ok := a.(error); ok && first == nil {
			first = failed
		}
		answers = append(answers, a)
	}
	return answers, first
}

func (c *redisConn) answer() (any, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return nil, errors.New("an empty answer")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+', ':':
		return rest, nil
	case '-':
		return errors.New(rest), nil
	}
	n, err := strconv.Atoi(rest)
	switch {
	case err != nil || kind != '$' && kind != '*':
		return nil, fmt.Errorf("an answer begins with %q", line)
	case n < 0:
		return nil, nil
	case kind == '$':
		text := make([]byte, n+2)
		_, err := io.ReadFull(c.r, text)
		return string(text[:n]), err
	}
	list := make([]any, n)
	for i := range list {
		if list[i], err = c.answer(); err != nil {
			return nil, err
		}
	}
	return list, nil
}
