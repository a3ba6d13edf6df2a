package binlog

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/go-sql-driver/mysql"
)

// maxPacket is how many bytes a packet has at most; a message of that many or more
// goes on in the next one.
const maxPacket = 1<<24 - 1

// First bytes of answers.
const (
	answerOK    = 0x00
	answerEOF   = 0xfe
	answerError = 0xff
)

// packets reads messages of the protocol: a packet is length u24, sequence u8, bytes.
type packets struct {
	r    *bufio.Reader
	left int  // of the packet
	more bool // the message goes on in another packet
	seq  byte
}

// begin goes to the next message; the one before must have been read to its end.
func (p *packets) begin() error {
	var head [4]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return err
	}
	p.left = int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	p.more = p.left == maxPacket
	p.seq = head[3]
	return nil
}

// Read reads what is left of the message.
func (p *packets) Read(b []byte) (int, error) {
	for p.left == 0 {
		if !p.more {
			return 0, io.EOF
		}
		if err := p.begin(); err != nil {
			return 0, noEOF(err)
		}
	}
	n, err := p.r.Read(b[:min(len(b), p.left)])
	p.left -= n
	return n, noEOF(err)
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// message reads a whole message of bounded length.
func (p *packets) message(limit int) ([]byte, error) {
	if err := p.begin(); err != nil {
		return nil, err
	}
	return p.rest(limit)
}

func (p *packets) rest(limit int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(p, int64(limit)+1))
	if err == nil && len(b) > limit {
		err = fmt.Errorf("a message of more than %d bytes", limit)
	}
	return b, err
}

// messages writes messages.
type messages struct {
	w   *bufio.Writer
	seq byte
}

// begin starts a message of a known length; its bytes follow with Write.
type outgoing struct {
	m    *messages
	left uint64 // of the message
	room int    // of the packet
	full bool   // the last packet had maxPacket bytes
}

func (m *messages) begin(length uint64) (*outgoing, error) {
	o := &outgoing{m: m, left: length}
	return o, o.packet()
}

func (o *outgoing) packet() error {
	o.room = int(min(o.left, maxPacket))
	o.full = o.room == maxPacket
	head := [4]byte{byte(o.room), byte(o.room >> 8), byte(o.room >> 16), o.m.seq}
	o.m.seq++
	_, err := o.m.w.Write(head[:])
	return err
}

func (o *outgoing) Write(b []byte) (int, error) {
	done := 0
	for len(b) > 0 {
		if o.room == 0 {
			return done, fmt.Errorf("a message is longer by %d bytes than was said", len(b))
		}
		n, err := o.m.w.Write(b[:min(len(b), o.room)])
		done += n
		o.room -= n
		o.left -= uint64(n)
		if err != nil {
			return done, err
		}
		b = b[n:]
		if o.room == 0 && o.full {
			if err := o.packet(); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// write writes a whole message.
func (m *messages) write(b []byte) error {
	o, err := m.begin(uint64(len(b)))
	if err != nil {
		return err
	}
	_, err = o.Write(b)
	return err
}

// parseError reads an error message.
func parseError(b []byte) error {
	if len(b) < 3 {
		return fmt.Errorf("an error message of %d bytes", len(b))
	}
	e := &mysql.MySQLError{Number: binary.LittleEndian.Uint16(b[1:])}
	if b = b[3:]; len(b) >= 6 && b[0] == '#' {
		copy(e.SQLState[:], b[1:6])
		b = b[6:]
	}
	e.Message = string(b)
	return e
}
