package role

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"repld/change"
)

// ID is a node's identity: the fingerprint of its key, which a change of name does
// not change. "" stands for "none".
type ID string

// Nonce tells two promotions of one number, and two plans of one kind, apart.
type Nonce string

// NewNonce returns 64 random bits.
func NewNonce() Nonce {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return Nonce(hex.EncodeToString(b[:]))
}

// Epoch is one tenure of the production role. Two epochs of one number that differ
// in promoter or nonce were made by two promotions that didn't know of each other.
// The zero Epoch stands for "none".
type Epoch struct {
	Number   change.Epoch `yaml:"number" json:"number"`
	Promoter ID           `yaml:"promoter" json:"promoter"` // the node that was promoted
	Nonce    Nonce        `yaml:"nonce" json:"nonce"`
}

// IsZero reports whether e stands for "none".
func (e Epoch) IsZero() bool { return e == Epoch{} }

func (e Epoch) String() string {
	if e.IsZero() {
		return "none"
	}
	return fmt.Sprintf("%d", e.Number)
}

// Grant is the next epoch, given to the peer by the node that serves and stops
// serving: whoever has given it never returns by itself.
type Grant struct {
	Base Epoch `yaml:"base" json:"base"` // in which it was given
	Next Epoch `yaml:"next" json:"next"` // its promoter is the peer
}

// IsZero reports whether g stands for "none".
func (g Grant) IsZero() bool { return g == Grant{} }
