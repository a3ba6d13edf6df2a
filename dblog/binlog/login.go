package binlog

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// loginTimeout bounds how long a client may take to log in.
const loginTimeout = 10 * time.Second

// maxMessage bounds what a client may send at once: commands are short.
const maxMessage = 64 << 10

// gateUser is whom the replica logs in as.
const gateUser = "repld"

// Capabilities of the protocol's two sides (mysql_com.h).
const (
	capLongPassword = 1
	capLongFlag     = 4
	capWithDB       = 8
	capProtocol41   = 0x200
	capTransactions = 0x2000
	capSecure       = 0x8000
	capPlugin       = 0x80000
	capAttributes   = 0x100000
	capLongAuth     = 0x200000

	capabilities = capLongPassword | capLongFlag | capWithDB | capProtocol41 | capTransactions | capSecure | capPlugin |
		capAttributes | capLongAuth
)

const (
	nativePassword  = "mysql_native_password"
	cachingPassword = "caching_sha2_password"
	charsetUTF8     = 45
	statusReady     = 2 // SERVER_STATUS_AUTOCOMMIT
)

// session is one connection of the replica.
type session struct {
	gate *Gate
	conn net.Conn
	in   packets
	out  messages
	vars map[string]string // what it SET
	// checksum is the algorithm that it was told the events have.
	checksum byte

	closing sync.Once
}

func (s *session) close() { s.closing.Do(func() { s.conn.Close() }) }

// serve talks to one client until it goes.
func (g *Gate) serve(ctx context.Context, conn net.Conn) {
	s := &session{gate: g, conn: conn, vars: make(map[string]string)}
	s.in.r = bufio.NewReader(conn)
	s.out.w = bufio.NewWriterSize(conn, 64<<10)
	defer s.close()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	err := conn.SetDeadline(time.Now().Add(loginTimeout))
	if err == nil {
		err = s.login()
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err == nil {
		err = s.commands(ctx)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		g.opts.Logger.Info("the replica's connection ended", "database", g.opts.Name, "err", err)
	}
}

// login greets the client and lets in who knows the password.
func (s *session) login() error {
	gate, about, ok := s.gate.open()
	if !ok || gate.at.IsZero() {
		// A replica tries again after this code, and after few others.
		return s.refuse(codeTooMany, "08004", "repld has not opened the gate yet: it waits for a barrier")
	}
	scramble := make([]byte, 20)
	for i, b := range []byte(rand.Text())[:20] {
		scramble[i] = b
	}
	if err := s.greet(about.format.version, scramble); err != nil {
		return err
	}
	b, err := s.in.message(maxMessage)
	if err != nil {
		return err
	}
	s.out.seq = s.in.seq + 1
	user, answer, plugin, err := parseLogin(b)
	if err != nil {
		return errors.Join(err, s.refuse(codeNoAccess, "28000", err.Error()))
	}
	if want := s.gate.dialect.plugin(); plugin != want && plugin != "" {
		ask := append([]byte{answerEOF}, want+"\x00"...)
		if err := s.send(append(append(ask, scramble...), 0)); err != nil {
			return err
		}
		if answer, err = s.in.message(maxMessage); err != nil {
			return err
		}
		s.out.seq = s.in.seq + 1
	}
	if user != gateUser || subtle.ConstantTimeCompare(s.gate.dialect.proof(s.gate.entry().Password, scramble), answer) != 1 {
		return s.refuse(codeNoAccess, "28000", "repld lets nobody in but the replica")
	}
	return s.gate.dialect.admit(s)
}

func (g *Gate) entry() access {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.access
}

// greet sends the first message, protocol version 10.
func (s *session) greet(version string, scramble []byte) error {
	b := []byte{10}
	b = append(b, s.gate.dialect.greeting(version)+"\x00"...)
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = append(b, scramble[:8]...)
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint16(b, capabilities&0xffff)
	b = append(b, charsetUTF8)
	b = binary.LittleEndian.AppendUint16(b, statusReady)
	b = binary.LittleEndian.AppendUint16(b, capabilities>>16)
	b = append(b, byte(len(scramble)+1))
	b = append(b, make([]byte, 10)...)
	b = append(b, scramble[8:]...)
	b = append(b, 0)
	return s.send(append(b, s.gate.dialect.plugin()+"\x00"...))
}

// parseLogin reads the client's first message.
func parseLogin(b []byte) (user string, answer []byte, plugin string, err error) {
	short := errors.New("the login is too short")
	if len(b) < 33 {
		return "", nil, "", short
	}
	caps := binary.LittleEndian.Uint32(b)
	if caps&capProtocol41 == 0 || caps&capSecure == 0 {
		return "", nil, "", errors.New("the client speaks too old a protocol")
	}
	b = b[32:]
	text := func() string {
		v, rest, ok := bytes.Cut(b, []byte{0})
		if !ok {
			rest = nil
		}
		b = rest
		return string(v)
	}
	user = text()
	if len(b) < 1 || len(b) < 1+int(b[0]) || b[0] > 250 {
		return "", nil, "", short
	}
	answer = b[1 : 1+int(b[0])]
	b = b[1+int(b[0]):]
	if caps&capWithDB != 0 {
		text()
	}
	if caps&capPlugin != 0 {
		plugin = text()
	}
	return user, answer, plugin, nil
}

// send sends a message at once.
func (s *session) send(b []byte) error {
	if err := s.out.write(b); err != nil {
		return err
	}
	return s.out.w.Flush()
}

func (s *session) ok() error {
	return s.send([]byte{answerOK, 0, 0, statusReady, 0, 0, 0})
}

// sorry sends an error.
func (s *session) sorry(code uint16, state, text string) error {
	b := binary.LittleEndian.AppendUint16([]byte{answerError}, code)
	b = append(b, "#"+state...)
	return s.send(append(b, text...))
}

// refuse sends an error and returns it.
func (s *session) refuse(code uint16, state, text string) error {
	return errors.Join(errors.New(text), s.sorry(code, state, text))
}

// open returns where the gate is, and what the file there begins with; false while it
// is closed.
func (g *Gate) open() (place, info, bool) {
	g.mu.Lock()
	gate := g.gate
	g.mu.Unlock()
	if gate.at.IsZero() {
		return gate, info{}, false
	}
	for _, c := range g.opts.Spool.Chapters() {
		if c.Number == gate.at.Chapter {
			about, err := parseInfo(g.dialect, c.Info)
			return gate, about, err == nil
		}
	}
	return gate, info{}, false
}

// commands answers the client until it goes.
func (s *session) commands(ctx context.Context) error {
	for {
		b, err := s.in.message(maxMessage)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.out.seq = s.in.seq + 1
		if len(b) == 0 {
			return errors.New("an empty command")
		}
		switch b[0] {
		case commandQuit:
			return nil
		case commandPing, commandDatabase, commandRegister:
			err = s.ok()
		case commandQuery:
			err = s.query(string(b[1:]))
		default:
			if have, ok, err := s.gate.dialect.requested(s, b[0], b[1:]); ok {
				return s.dump(ctx, have, err)
			}
			err = s.sorry(codeUnknown, "08S01", fmt.Sprintf("repld's gate doesn't answer command %d", b[0]))
		}
		if err != nil {
			return err
		}
	}
}
