package wire

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
)

// SecretSize is the length of an invitation's secret in bytes.
const SecretSize = 16

// Token is an invitation as it is handed to the operator of the other node.
type Token struct {
	Address string           // host:port of the inviting node
	Key     Fingerprint      // of the inviting node
	Secret  [SecretSize]byte // redeemable once
	Expires time.Time        // whole seconds, UTC
}

// The version is a part of the prefix, so that an older program can say what is
// wrong with a newer token.
const (
	tokenWord    = "repld"
	tokenVersion = "1"
	tokenMark    = "x" // no digit, so that the version ends
	maxAddress   = 255
)

// Lower-case base32 survives double clicks, shells, mails and case folding.
var tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Errors of [ParseToken]; they come with details.
var (
	ErrNotToken     = errors.New("this is not a join token")
	ErrTokenDamaged = errors.New("the join token is damaged")
	ErrTokenVersion = errors.New("the join token is of another version")
	ErrTokenExpired = errors.New("the join token has expired")
)

// String returns the token as one line without spaces; its layout stands in the
// package's documentation.
func (t Token) String() string {
	b := make([]byte, 0, 128)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires.Unix()))
	b = append(b, t.Key[:]...)
	b = append(b, t.Secret[:]...)
	b = append(b, t.Address...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return tokenWord + tokenVersion + tokenMark + tokenEncoding.EncodeToString(b)
}

// LogValue keeps the secret out of logs ([slog.LogValuer]).
func (t Token) LogValue() slog.Value {
	return slog.GroupValue(slog.String("address", t.Address), slog.Any("key", t.Key), slog.Time("expires", t.Expires))
}

// ParseToken is the inverse of [Token.String]. White space around the token is
// ignored. now is this node's wall clock; the inviting node judges by its own
// again. Errors match [ErrNotToken], [ErrTokenDamaged], [ErrTokenVersion] or
// [ErrTokenExpired].
func ParseToken(s string, now time.Time) (Token, error) {
	rest, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(s)), tokenWord)
	version, payload, marked := strings.Cut(rest, tokenMark)
	if _, err := strconv.ParseUint(version, 10, 16); !ok || !marked || err != nil {
		return Token{}, fmt.Errorf("%w: want one line that begins with %q", ErrNotToken, tokenWord+tokenVersion+tokenMark)
	}
	if version != tokenVersion {
		return Token{}, fmt.Errorf("%w: it is of version %s, this node reads %s; upgrade the older node",
			ErrTokenVersion, version, tokenVersion)
	}
	b, err := tokenEncoding.DecodeString(payload)
	const fixed = 8 + len(Fingerprint{}) + SecretSize
	if err != nil || len(b) < fixed+4 {
		return Token{}, fmt.Errorf("%w: characters are missing or wrong; copy it again, whole", ErrTokenDamaged)
	}
	body, sum := b[:len(b)-4], b[len(b)-4:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(sum) {
		return Token{}, fmt.Errorf("%w: its checksum is wrong; copy it again, whole", ErrTokenDamaged)
	}
	t := Token{Expires: time.Unix(int64(binary.BigEndian.Uint64(body)), 0).UTC(), Address: string(body[fixed:])}
	copy(t.Key[:], body[8:])
	copy(t.Secret[:], body[8+len(t.Key):])
	if err := CheckAddress(t.Address); err != nil {
		return Token{}, fmt.Errorf("%w: %w", ErrTokenDamaged, err)
	}
	if !now.Before(t.Expires) {
		return Token{}, fmt.Errorf("%w: at %s, and this node's clock says %s",
			ErrTokenExpired, t.Expires.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return t, nil
}

// CheckAddress judges an address that a peer is to be dialed at: a host name or
// IP address (an IPv6 address in brackets) and a port number.
func CheckAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q: want HOST:PORT", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("address %q: port %q is not a number from 1 to 65535", address, port)
	}
	if host == "" || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("address %q: host %q is not a name or address", address, host)
	}
	if len(address) > maxAddress {
		return fmt.Errorf("address of %d bytes, the limit is %d", len(address), maxAddress)
	}
	return nil
}
