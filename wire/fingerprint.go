package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Fingerprint names a node's key: SHA-256 of the public key's SubjectPublicKeyInfo
// in DER (RFC 5280), as in
//
//	openssl pkey -in key.pem -pubout -outform DER | sha256sum
//
// The zero Fingerprint stands for "none".
type Fingerprint [sha256.Size]byte

const fingerprintPrefix = "sha256:"

// IsZero reports whether f stands for "none".
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// String returns f as "sha256:" followed by 64 hexadecimal digits.
func (f Fingerprint) String() string { return fingerprintPrefix + hex.EncodeToString(f[:]) }

// MarshalText is [Fingerprint.String] for encoders.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText is the inverse of [Fingerprint.MarshalText].
func (f *Fingerprint) UnmarshalText(text []byte) error {
	parsed, err := ParseFingerprint(string(text))
	if err != nil {
		return err
	}
	*f = parsed
	return nil
}

// ParseFingerprint is the inverse of [Fingerprint.String].
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	digits, ok := strings.CutPrefix(s, fingerprintPrefix)
	if !ok || len(digits) != 2*len(f) {
		return f, fmt.Errorf("fingerprint %q: want %q and %d hexadecimal digits", s, fingerprintPrefix, 2*len(f))
	}
	if _, err := hex.Decode(f[:], []byte(digits)); err != nil {
		return Fingerprint{}, fmt.Errorf("fingerprint %q: %w", s, err)
	}
	return f, nil
}

// certificateFingerprint judges nothing but the key: names and dates of the
// self-signed certificates mean nothing.
func certificateFingerprint(cert *x509.Certificate) (Fingerprint, error) {
	if _, ok := cert.PublicKey.(ed25519.PublicKey); !ok {
		return Fingerprint{}, errors.New("the peer's certificate holds no Ed25519 key")
	}
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo), nil
}
