package postgres

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	scramMechanism  = "SCRAM-SHA-256"
	scramIterations = 4096
)

var errPassword = errors.New("the password is wrong")

// scram checks a password as RFC 5802 and RFC 7677 say, without channel binding: there
// is no TLS on loopback.
func (s *session) scram(password string) error {
	s.back.Send(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{scramMechanism}})
	if err := s.back.Flush(); err != nil {
		return err
	}
	if err := s.back.SetAuthType(pgproto3.AuthTypeSASL); err != nil {
		return err
	}
	msg, err := s.back.Receive()
	if err != nil {
		return err
	}
	first, ok := msg.(*pgproto3.SASLInitialResponse)
	if !ok || first.AuthMechanism != scramMechanism {
		return fmt.Errorf("the client answered with %T, want %s", msg, scramMechanism)
	}
	x, challenge, err := newExchange(password, string(first.Data), rand.Text(), []byte(rand.Text()))
	if err != nil {
		return err
	}
	s.back.Send(&pgproto3.AuthenticationSASLContinue{Data: []byte(challenge)})
	if err := s.back.Flush(); err != nil {
		return err
	}
	if err := s.back.SetAuthType(pgproto3.AuthTypeSASLContinue); err != nil {
		return err
	}
	if msg, err = s.back.Receive(); err != nil {
		return err
	}
	final, ok := msg.(*pgproto3.SASLResponse)
	if !ok {
		return fmt.Errorf("the client answered with %T", msg)
	}
	signature, err := x.finish(string(final.Data))
	if err != nil {
		return err
	}
	s.back.Send(&pgproto3.AuthenticationSASLFinal{Data: []byte(signature)})
	return nil
}

// exchange is the server's side of SCRAM.
type exchange struct {
	salted                []byte
	header                string // the client's GS2 header
	nonce                 string
	clientFirst, ourFirst string
}

// newExchange takes the client's first message and returns our answer.
func newExchange(password, first, nonce string, salt []byte) (*exchange, string, error) {
	parts := strings.SplitN(first, ",", 3)
	if len(parts) != 3 || parts[0] != "n" && parts[0] != "y" {
		return nil, "", errors.New("the client wants channel binding, or its message is malformed")
	}
	x := &exchange{header: parts[0] + "," + parts[1] + ",", clientFirst: parts[2]}
	for field := range strings.SplitSeq(parts[2], ",") {
		if n, ok := strings.CutPrefix(field, "r="); ok && n != "" {
			x.nonce = n + nonce
		}
	}
	if x.nonce == "" {
		return nil, "", errors.New("the client sent no nonce")
	}
	var err error
	if x.salted, err = pbkdf2.Key(sha256.New, password, salt, scramIterations, sha256.Size); err != nil {
		return nil, "", err
	}
	x.ourFirst = fmt.Sprintf("r=%s,s=%s,i=%d", x.nonce, base64.StdEncoding.EncodeToString(salt), scramIterations)
	return x, x.ourFirst, nil
}

// finish checks the client's proof and returns ours.
func (x *exchange) finish(final string) (string, error) {
	bare, encoded, ok := strings.Cut(final, ",p=")
	proof, err := base64.StdEncoding.DecodeString(encoded)
	if want := "c=" + base64.StdEncoding.EncodeToString([]byte(x.header)) + ",r=" + x.nonce; !ok || err != nil || len(proof) != sha256.Size || bare != want {
		return "", errors.New("the client's last message is malformed")
	}
	message := x.clientFirst + "," + x.ourFirst + "," + bare
	clientKey := mac(x.salted, "Client Key")
	stored := sha256.Sum256(clientKey)
	signature := mac(stored[:], message)
	recovered := make([]byte, sha256.Size)
	subtle.XORBytes(recovered, proof, signature)
	if got := sha256.Sum256(recovered); subtle.ConstantTimeCompare(got[:], stored[:]) != 1 {
		return "", errPassword
	}
	return "v=" + base64.StdEncoding.EncodeToString(mac(mac(x.salted, "Server Key"), message)), nil
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}
