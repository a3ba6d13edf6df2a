package redis

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"repld/dblog"
)

// hello introduces the connection as a replica's, which understands an RDB file whose
// length isn't known, and a replication id that changes.
func hello(c *connection) error {
	for _, words := range [][]string{{"PING"}, {"REPLCONF", "capa", "eof", "capa", "psync2"}} {
		if _, err := c.do(words...); err != nil {
			return err
		}
	}
	return nil
}

// psync asks for the stream from a byte on, or for all keys with the id "?". It returns
// the words of the answer. Signs of life may come before that for as long as the server
// takes to fork.
func psync(c *connection, id string, next int64) ([]string, error) {
	if _, err := c.Write(request("PSYNC", id, strconv.FormatInt(next, 10))); err != nil {
		return nil, err
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return nil, fmt.Errorf("it did not answer PSYNC: %w", err)
		}
		text := strings.TrimRight(string(line), "\r\n")
		switch {
		case text == "":
		case text[0] == '-':
			return nil, answerError(text[1:])
		case text[0] == '+':
			return strings.Fields(text[1:]), nil
		default:
			return nil, fmt.Errorf("it answered PSYNC with %q, which isn't Redis' protocol", text[:min(len(text), 40)])
		}
	}
}

// follow begins the stream of a replication id from a byte on, if the server has it.
// One that hasn't is not asked: it would send all keys.
func follow(c *connection, id string, next uint64) error {
	is, err := ask(c, "replication")
	if err != nil {
		return err
	}
	if err := is.has(id, next); err != nil {
		return err
	}
	if err := hello(c); err != nil {
		return err
	}
	answer, err := psync(c, id, int64(next))
	if err != nil {
		return err
	}
	if answer[0] != "CONTINUE" {
		return fmt.Errorf("%w: the server's backlog was overrun while the stream was asked for from byte %d on: want a larger repl-backlog-size", dblog.ErrNeedsSeed, next)
	}
	return nil
}

// has says why a server hasn't the stream of a replication id from a byte on; nil: it has.
// It wants the section "replication".
func (i info) has(id string, next uint64) error {
	if second, err := i.number("second_repl_offset"); err == nil && i["master_replid2"] == id && int64(next) <= second {
		id = i["master_replid"]
	}
	if now := i["master_replid"]; now != id {
		return fmt.Errorf("%w: the server's replication id is %s, the standby's stream is of %s: the server was restarted, "+
			"took another's place, or was without replicas for repl-backlog-ttl", dblog.ErrNeedsSeed, now, id)
	}
	end, err := i.next("master_repl_offset")
	if err != nil {
		return err
	}
	first, err := i.number("repl_backlog_first_byte_offset")
	if err != nil {
		return err
	}
	switch {
	case i["repl_backlog_active"] != "1":
		return fmt.Errorf("%w: the server keeps no backlog of its stream", dblog.ErrNeedsSeed)
	case next > end:
		return fmt.Errorf("%w: the standby has the stream up to %d, the server up to %d", dblog.ErrNeedsSeed, next-1, end-1)
	case int64(next) < first:
		return fmt.Errorf("%w: the server's backlog begins at %d, the standby has the stream up to %d: want a larger repl-backlog-size than %s bytes",
			dblog.ErrNeedsSeed, first-1, next-1, i["repl_backlog_size"])
	}
	return nil
}

// snapshot is an RDB file as it comes.
type snapshot struct {
	id   string // replication id
	next uint64 // byte of the stream that comes behind it

	r    *bufio.Reader
	left int64  // bytes that are still to come, or
	mark []byte // what ends it
	last []byte // bytes that may be the beginning of the mark
	over bool
}

// takeSnapshot asks a server for an RDB file without the stream behind it. begun is called
// when it is known of when it will be.
func takeSnapshot(c *connection, begun func(id string, next uint64) error) (*snapshot, error) {
	if err := hello(c); err != nil {
		return nil, err
	}
	if _, err := c.do("REPLCONF", "rdb-only", "1"); err != nil {
		return nil, err
	}
	answer, err := psync(c, "?", -1)
	if err != nil {
		return nil, err
	}
	s := &snapshot{r: c.r}
	if len(answer) != 3 || answer[0] != "FULLRESYNC" {
		return nil, fmt.Errorf("it answered PSYNC with %q, want FULLRESYNC, an id and an offset", answer)
	}
	s.id = answer[1]
	if s.next, err = strconv.ParseUint(answer[2], 10, 63); err != nil {
		return nil, fmt.Errorf("it answered PSYNC with the offset %q", answer[2])
	}
	s.next++
	if err := begun(s.id, s.next); err != nil {
		return nil, err
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return nil, fmt.Errorf("it sent no RDB file: %w", err)
		}
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			continue
		}
		if mark, ok := strings.CutPrefix(text, "$EOF:"); ok && len(mark) == markSize {
			s.mark = []byte(mark)
			return s, nil
		}
		if text[0] == '$' {
			if s.left, err = strconv.ParseInt(text[1:], 10, 64); err == nil && s.left > 0 {
				return s, nil
			}
		}
		return nil, fmt.Errorf("it sent %q in place of an RDB file", text[:min(len(text), 60)])
	}
}

// markSize is how long the mark is that ends a file whose length isn't told
// (CONFIG_RUN_ID_SIZE).
const markSize = 40

// Read implements io.Reader. It returns io.EOF at the end of the file.
func (s *snapshot) Read(p []byte) (int, error) {
	if s.over {
		return 0, io.EOF
	}
	if s.mark == nil {
		return s.counted(p)
	}
	for {
		if i := bytes.Index(s.last, s.mark); i >= 0 {
			n := copy(p, s.last[:i])
			s.last = s.last[n:]
			if n > 0 || i > 0 {
				return n, nil
			}
			s.over = true
			return 0, io.EOF
		}
		if free := len(s.last) - markSize + 1; free > 0 {
			n := copy(p, s.last[:free])
			s.last = s.last[n:]
			return n, nil
		}
		if _, err := s.r.Peek(1); err != nil {
			return 0, cutOff(err)
		}
		piece, _ := s.r.Peek(s.r.Buffered()) // they are there
		s.last = append(append(make([]byte, 0, len(s.last)+len(piece)), s.last...), piece...)
		_, _ = s.r.Discard(len(piece)) // as above
	}
}

func (s *snapshot) counted(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	if s.left -= int64(n); s.left == 0 {
		err = nil
	}
	if err != nil {
		err = cutOff(err)
	}
	return n, err
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the RDB file was cut off: %w", err)
}

// copySnapshot takes an RDB file of a server and writes it to w.
func copySnapshot(ctx context.Context, at address, w io.Writer, begun func(id string, next uint64) error) error {
	c, err := dial(ctx, at)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := takeSnapshot(c, begun)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, s, make([]byte, 256<<10))
	return err
}
