package redis

import (
	"bytes"
	"fmt"
	"strconv"
)

// Bounds of what is believed of a stream: arguments of a command, and bytes of one
// (proto-max-bulk-len may be set up to the size of a long).
const (
	maxArguments = 1 << 30
	maxArgument  = 1 << 40
	maxLine      = 64
	maxWord      = 16 // a longer word is none that matters here
)

// scanner follows a replication stream, which may come in pieces of any size: commands
// of the form *COUNT, and for each argument $LENGTH and its bytes. It begins between two
// commands.
type scanner struct {
	at       uint64 // offset of the next byte
	boundary uint64 // end of the last command that no transaction is open after
	moved    uint64 // up to where there was something that counts
	// asked is called for REPLCONF GETACK, which wants an answer; nil is not.
	asked func()

	open  bool   // within MULTI and EXEC
	line  []byte // a line that hasn't ended
	left  int    // arguments that are still to come
	index int    // of the argument that comes
	bulk  int64  // bytes that are still to come of it, with its CRLF
	words [2][]byte
}

// scanFrom returns a scanner that begins at an offset between two commands.
func scanFrom(offset uint64) scanner { return scanner{at: offset, boundary: offset, moved: offset} }

// feed takes the next bytes.
func (s *scanner) feed(p []byte) error {
	for len(p) > 0 {
		if s.bulk > 0 {
			p = s.argument(p)
			continue
		}
		i := bytes.IndexByte(p, '\n')
		n := i + 1
		if i < 0 {
			n = len(p)
		}
		if len(s.line)+n > maxLine {
			return fmt.Errorf("the stream has a line of more than %d bytes at %d where a number is wanted", maxLine, s.at)
		}
		s.line = append(s.line, p[:n]...)
		p = p[n:]
		s.at += uint64(n)
		if i < 0 {
			return nil
		}
		if err := s.number(bytes.TrimRight(s.line, "\r\n")); err != nil {
			return err
		}
		s.line = s.line[:0]
	}
	return nil
}

// number takes a line.
func (s *scanner) number(line []byte) error {
	if len(line) == 0 && s.left == 0 { // a mere sign of life
		if !s.open {
			s.boundary = s.at
		}
		return nil
	}
	kind, most := byte('*'), int64(maxArguments)
	if s.left > 0 {
		kind, most = '$', maxArgument
	}
	n := int64(-1)
	if len(line) > 1 && line[0] == kind {
		var err error
		if n, err = strconv.ParseInt(string(line[1:]), 10, 64); err != nil {
			n = -1
		}
	}
	switch {
	case n < 0 || n > most || kind == '*' && n == 0:
		return fmt.Errorf("the stream has %q before %d, want %c and a number", line, s.at, kind)
	case kind == '*':
		s.left, s.index = int(n), 0
		s.words[0], s.words[1] = s.words[0][:0], s.words[1][:0]
	default:
		s.bulk = n + 2
	}
	return nil
}

// argument takes bytes of an argument and returns the others.
func (s *scanner) argument(p []byte) []byte {
	n := int(min(int64(len(p)), s.bulk))
	if s.index < len(s.words) {
		w := &s.words[s.index]
		*w = append(*w, p[:min(n, max(0, maxWord+2-len(*w)))]...)
	}
	s.bulk -= int64(n)
	s.at += uint64(n)
	if s.bulk == 0 {
		s.index++
		if s.left--; s.left == 0 {
			s.command()
		}
	}
	return p[n:]
}

// command ends one.
func (s *scanner) command() {
	name := string(bytes.ToUpper(bytes.TrimSuffix(s.words[0], []byte("\r\n"))))
	second := bytes.TrimSuffix(s.words[1], []byte("\r\n"))
	asks := name == "REPLCONF" && bytes.EqualFold(second, []byte("GETACK"))
	switch {
	case name == "MULTI":
		s.open = true
	case name == "EXEC", name == "DISCARD":
		s.open = false
	}
	if name != "PING" && !asks {
		s.moved = s.at
	}
	if !s.open {
		s.boundary = s.at
	}
	if asks && s.asked != nil {
		s.asked()
	}
}
