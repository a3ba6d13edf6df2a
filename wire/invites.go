package wire

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"repld/change"
)

// InviteLifetime is how long an invitation may be redeemed after it was issued.
const InviteLifetime = time.Hour

// maxInvites bounds what an operator's script can pile up; the oldest goes.
const maxInvites = 16

// SavedInvites is the state of [Invites] for the caller to keep; the secrets are
// not in it, only their digests.
type SavedInvites struct {
	Open []SavedInvite `json:"open,omitempty" yaml:"open,omitempty"`
}

// SavedInvite is one invitation that wasn't redeemed yet.
type SavedInvite struct {
	SecretHash string    `json:"secret_hash" yaml:"secret_hash"` // SHA-256 of the secret, written as a Fingerprint
	Expires    time.Time `json:"expires" yaml:"expires"`
}

// InvitesOptions are for [NewInvites].
type InvitesOptions struct {
	Clock change.Clock // nil: the system's. Expiry goes by its wall clock, to outlive restarts
	Saved SavedInvites // state of an earlier run; zero: none
	// Store is called with every change before it takes effect and must have
	// stored it durably when it returns, else an invitation could be redeemed
	// again after a crash. Its error undoes the change. nil: nothing is stored.
	Store func(SavedInvites) error
}

// Invites holds the invitations that are open on this node. It is safe for
// concurrent use.
type Invites struct {
	clock change.Clock
	store func(SavedInvites) error

	mu   sync.Mutex
	open []invite // oldest first
}

type invite struct {
	hash    Fingerprint // SHA-256 of the secret: 128 random bits need no slow hash
	expires time.Time
}

// NewInvites returns the invitations of o.Saved that still can be redeemed.
func NewInvites(o InvitesOptions) (*Invites, error) {
	v := &Invites{clock: o.Clock, store: o.Store}
	if v.clock == nil {
		v.clock = change.SystemClock()
	}
	if v.store == nil {
		v.store = func(SavedInvites) error { return nil }
	}
	for _, s := range o.Saved.Open {
		hash, err := ParseFingerprint(s.SecretHash)
		if err != nil {
			return nil, fmt.Errorf("stored invitation: %w", err)
		}
		v.open = append(v.open, invite{hash, s.Expires})
	}
	v.open = v.live()
	return v, nil
}

// Issue opens an invitation to the node with the given address and key, good for
// [InviteLifetime].
func (v *Invites) Issue(address string, key Fingerprint) (Token, error) {
	if err := CheckAddress(address); err != nil {
		return Token{}, err
	}
	t := Token{Address: address, Key: key, Expires: v.clock.Now().Add(InviteLifetime).Truncate(time.Second)}
	rand.Read(t.Secret[:]) // never fails, see crypto/rand
	v.mu.Lock()
	defer v.mu.Unlock()
	open := append(v.live(), invite{sha256.Sum256(t.Secret[:]), t.Expires})
	if len(open) > maxInvites {
		open = open[len(open)-maxInvites:]
	}
	if err := v.change(open); err != nil {
		return Token{}, err
	}
	return t, nil
}

// Errors of [Invites.Redeem].
var (
	ErrNoInvitation = errors.New("the join token's secret is wrong or was used before")
	ErrInviteStore  = errors.New("the invitation could not be marked as used")
)

// Redeem uses up the invitation with that secret. One that has expired counts as
// wrong: it isn't remembered.
func (v *Invites) Redeem(secret [SecretSize]byte) error {
	// Looking for a digest tells nothing useful by its timing.
	hash := Fingerprint(sha256.Sum256(secret[:]))
	v.mu.Lock()
	defer v.mu.Unlock()
	open := v.live()
	for i := range open {
		if open[i].hash == hash {
			rest := append(append([]invite(nil), open[:i]...), open[i+1:]...)
			return v.change(rest)
		}
	}
	return fmt.Errorf("%w, or it has expired", ErrNoInvitation)
}

// Revoke closes all invitations.
func (v *Invites) Revoke() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.change(nil)
}

// Open reports whether any invitation can be redeemed now.
func (v *Invites) Open() bool {
	if v == nil {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.live()) > 0
}

// Save returns the present state for [InvitesOptions].
func (v *Invites) Save() SavedInvites {
	v.mu.Lock()
	defer v.mu.Unlock()
	return saved(v.live())
}

func saved(open []invite) SavedInvites {
	var s SavedInvites
	for _, i := range open {
		s.Open = append(s.Open, SavedInvite{SecretHash: i.hash.String(), Expires: i.expires})
	}
	return s
}

// live returns a copy of what has not expired.
func (v *Invites) live() []invite {
	now := v.clock.Now()
	var live []invite
	for _, i := range v.open {
		if now.Before(i.expires) {
			live = append(live, i)
		}
	}
	return live
}

func (v *Invites) change(open []invite) error {
	if err := v.store(saved(open)); err != nil {
		return fmt.Errorf("%w: %w", ErrInviteStore, err)
	}
	v.open = open
	return nil
}
