package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"repld/change"
)

// startupTimeout bounds how long a client may take to log in.
const startupTimeout = 10 * time.Second

// maxMessage bounds what a client may send at once: status replies and commands are
// short.
const maxMessage = 64 << 10

// session is one connection of the replica.
type session struct {
	gate *Gate
	conn net.Conn
	back *pgproto3.Backend

	// Guarded by Gate.mu.
	flushed change.StreamPosition

	closing sync.Once
}

func (s *session) close() { s.closing.Do(func() { s.conn.Close() }) }

// serve talks to one client until it goes.
func (g *Gate) serve(ctx context.Context, conn net.Conn) {
	s := &session{gate: g, conn: conn, back: pgproto3.NewBackend(conn, conn)}
	s.back.SetMaxBodyLen(maxMessage)
	defer s.close()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	err := conn.SetDeadline(time.Now().Add(startupTimeout))
	if err == nil {
		err = s.start()
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

// start does the startup of the protocol: it says no to encryption, and lets in who
// may stream.
func (s *session) start() error {
	for {
		msg, err := s.back.ReceiveStartupMessage()
		if err != nil {
			return err
		}
		switch m := msg.(type) {
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			if _, err := s.conn.Write([]byte{'N'}); err != nil {
				return err
			}
		case *pgproto3.StartupMessage:
			return s.login(m)
		default:
			return fmt.Errorf("a startup message %T", msg)
		}
	}
}

func (s *session) login(m *pgproto3.StartupMessage) error {
	switch m.Parameters["replication"] {
	case "true", "on", "yes", "1":
	default:
		return s.refuse("0A000", "this is the gate of repld: it only serves physical replication")
	}
	if err := s.authenticate(m.Parameters["user"]); err != nil {
		return errors.Join(err, s.refuse("28000", "repld lets nobody in but the replica: "+err.Error()))
	}
	_, about, ok := s.gate.open()
	if !ok {
		return s.refuse("57P03", "repld has not opened the gate yet: it waits for a barrier")
	}
	s.back.Send(&pgproto3.AuthenticationOk{})
	for _, p := range [][2]string{
		{"server_version", serverVersion(about.Version)}, {"server_encoding", "UTF8"}, {"client_encoding", "UTF8"},
		{"integer_datetimes", "on"}, {"DateStyle", "ISO, MDY"}, {"standard_conforming_strings", "on"}, {"TimeZone", "GMT"},
	} {
		s.back.Send(&pgproto3.ParameterStatus{Name: p[0], Value: p[1]})
	}
	s.back.Send(&pgproto3.BackendKeyData{ProcessID: uint32(os.Getpid()), SecretKey: []byte{0, 0, 0, 0}})
	s.back.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return s.back.Flush()
}

// open returns the lineage of the gate, false while it is closed.
func (g *Gate) open() (lineage, info, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.line, g.about, g.line.timeline > 0
}

func serverVersion(number int) string {
	return strconv.Itoa(number/10000) + "." + strconv.Itoa(number%10000)
}

// refuse sends a fatal error and returns it.
func (s *session) refuse(code, text string) error {
	s.back.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: text})
	return errors.Join(errors.New(text), s.back.Flush())
}

// authenticate lets in: on a socket root, ourselves and the users of the options; on
// an address who knows the password.
func (s *session) authenticate(user string) error {
	c, ok := s.conn.(*net.UnixConn)
	if !ok {
		return s.scram(s.gate.opts.Password)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if cred.Uid != 0 && cred.Uid != uint32(os.Geteuid()) && !slices.Contains(s.gate.opts.Users, cred.Uid) {
		return fmt.Errorf("user id %d is not among those that may connect as %q", cred.Uid, user)
	}
	return nil
}
