package change

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// DigestSize is the length of a [Digest] in bytes.
const DigestSize = 32

// Digest is a BLAKE3-256 digest. The zero Digest stands for "none".
type Digest [DigestSize]byte

const digestPrefix = "b3:"

// IsZero reports whether d is the zero digest, which stands for "none".
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns d as "b3:" followed by 64 hexadecimal digits.
func (d Digest) String() string { return digestPrefix + hex.EncodeToString(d[:]) }

// MarshalText is [Digest.String] for encoders.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is the inverse of [Digest.MarshalText].
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// ParseDigest is the inverse of [Digest.String].
func ParseDigest(s string) (Digest, error) {
	var d Digest
	digits, ok := strings.CutPrefix(s, digestPrefix)
	if !ok || len(digits) != 2*DigestSize {
		return d, fmt.Errorf("digest %q: want %q and %d hexadecimal digits", s, digestPrefix, 2*DigestSize)
	}
	if _, err := hex.Decode(d[:], []byte(digits)); err != nil {
		return Digest{}, fmt.Errorf("digest %q: %w", s, err)
	}
	return d, nil
}
