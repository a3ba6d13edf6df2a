package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/quic-go/quic-go"
)

// Code says why a peer refused. The numbers are transmitted, in [Refusal] and as
// the application error code with which a connection is closed.
type Code uint16

// The codes. Numbers from CodeFirstFree on are the callers' own.
const (
	CodeDone        Code = 0 // not a refusal: the connection has served its purpose
	CodeFailed      Code = 1 // something went wrong over there
	CodeUnknownKey  Code = 2 // the key isn't the peer's, and no invitation is open
	CodeVersion     Code = 3 // no wire format in common
	CodeBadMessage  Code = 4 // a message that breaks this package's rules
	CodeInvitation  Code = 5 // the secret is wrong, used or expired
	CodeNotPaired   Code = 6 // the key may only join, and did not
	CodeBusy        Code = 7 // too many connections at once; worth another try
	CodeNotAccepted Code = 8 // the joiner was refused by its host
	CodeFirstFree   Code = 64
)

// Sentinels for what a caller decides by. All errors of a broken connection also
// match [net.ErrClosed].
var (
	// ErrClosed says that this side has closed the connection.
	ErrClosed = errors.New("the connection was closed by this node")
	// ErrPeerClosed says that the peer closed the connection without a refusal.
	ErrPeerClosed = errors.New("the peer closed the connection")
	// ErrPeerSilent says that nothing came from the peer for the idle time-out.
	ErrPeerSilent = errors.New("nothing was heard from the peer for too long")
	// ErrNoAnswer says that nobody answered at the address, or that the handshake wasn't done in time.
	ErrNoAnswer = errors.New("no answer")
	// ErrPeerRestarted says that the peer doesn't know the connection any more.
	ErrPeerRestarted = errors.New("the peer has restarted")
	// ErrCanceled says that the peer gave up a stream; the connection lives.
	ErrCanceled = errors.New("the peer canceled the stream")
	// ErrMalformed says that the peer broke the rules of this package.
	ErrMalformed = errors.New("the peer sent what it must not")
	// ErrWrongKey says that another key than the pinned one answered.
	ErrWrongKey = errors.New("the peer's key is not the expected one")
)

// RefusedError is what the other side said no with, or what this side says no
// with: pass it to [Conn.Close].
type RefusedError struct {
	Code Code
	Text string // whole sentence: what was found, what was wanted
	Hint string // what the operator can do, may be empty
}

func (e *RefusedError) Error() string { return e.Text }

// linkError keeps the text of a sentinel together with its cause.
type linkError struct {
	sentinel error
	cause    error
}

func (e *linkError) Error() string {
	if e.cause == nil {
		return e.sentinel.Error()
	}
	return e.sentinel.Error() + ": " + e.cause.Error()
}

func (e *linkError) Unwrap() []error { return []error{e.sentinel, e.cause, net.ErrClosed} }

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}

// TLS alerts as QUIC error codes, RFC 9001 section 4.8.
const (
	alertBadCertificate      = 0x100 + 42
	alertCertificateRequired = 0x100 + 116
	alertNoProtocol          = 0x100 + 120
)

// translate turns an error of the QUIC layer into one of this package's.
func translate(err error) error {
	var app *quic.ApplicationError
	var transport *quic.TransportError
	var idle *quic.IdleTimeoutError
	var handshake *quic.HandshakeTimeoutError
	var reset *quic.StatelessResetError
	var stream *quic.StreamError
	switch {
	case err == nil, err == io.EOF, errors.Is(err, ErrMalformed), errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case errors.As(err, &app):
		return applicationError(app)
	case errors.As(err, &idle):
		return &linkError{sentinel: ErrPeerSilent}
	case errors.As(err, &handshake):
		return &linkError{sentinel: ErrNoAnswer}
	case errors.As(err, &reset):
		return &linkError{sentinel: ErrPeerRestarted}
	case errors.As(err, &stream):
		if stream.Remote {
			return fmt.Errorf("%w (code %d)", ErrCanceled, stream.ErrorCode)
		}
		return context.Canceled
	case errors.As(err, &transport):
		return transportError(transport)
	case errors.Is(err, quic.ErrTransportClosed), errors.Is(err, quic.ErrServerClosed):
		return &linkError{sentinel: ErrClosed}
	}
	return err
}

func applicationError(e *quic.ApplicationError) error {
	switch {
	case !e.Remote:
		return &linkError{sentinel: ErrClosed}
	case e.ErrorCode == quic.ApplicationErrorCode(CodeDone):
		return &linkError{sentinel: ErrPeerClosed}
	}
	text, hint, _ := strings.Cut(e.ErrorMessage, "\n")
	r := &RefusedError{Code: CodeFailed, Text: printable(text, MaxRefusalText), Hint: printable(hint, MaxRefusalHint)}
	if e.ErrorCode <= 0xffff {
		r.Code = Code(e.ErrorCode)
	}
	if r.Text == "" {
		r.Text = fmt.Sprintf("the peer refused with code %d", e.ErrorCode)
	}
	return &linkError{sentinel: r}
}

func transportError(e *quic.TransportError) error {
	if !e.Remote {
		var wrong *WrongKeyError
		if errors.As(e, &wrong) {
			return wrong
		}
		return &linkError{sentinel: ErrMalformed, cause: e}
	}
	switch e.ErrorCode {
	case alertBadCertificate, alertCertificateRequired:
		return &RefusedError{Code: CodeUnknownKey, Text: "the peer does not accept this node's key",
			Hint: "pair the two nodes with a new join token from the peer"}
	case alertNoProtocol:
		return &RefusedError{Code: CodeVersion, Text: "the peer does not speak this protocol (" + protocolName + ")",
			Hint: "check the address; if it is right, upgrade the older of the two nodes, the standby first"}
	case quic.ConnectionRefused:
		return &RefusedError{Code: CodeBusy, Text: "the peer has too many connection attempts to answer, or is stopping",
			Hint: "the attempt is worth repeating in a moment"}
	}
	return &linkError{sentinel: ErrPeerClosed, cause: e}
}

// WrongKeyError says that another key than the pinned one answered: it matches
// [ErrWrongKey].
type WrongKeyError struct {
	Found, Wanted Fingerprint
}

func (e *WrongKeyError) Error() string {
	return fmt.Sprintf("the peer's key is %v, want %v", e.Found, e.Wanted)
}

// Is makes the error match [ErrWrongKey].
func (e *WrongKeyError) Is(target error) bool { return target == ErrWrongKey }

// printable makes s fit for a terminal and at most limit bytes long.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= limit {
		return s
	}
	const more = "…"
	s = s[:limit-len(more)]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + more
}
