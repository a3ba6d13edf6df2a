package lease

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"repld/change"
)

// Epoch is one tenure of the production role, as package role has it; the zero Epoch stands
// for "none".
type Epoch struct {
	Number   change.Epoch `json:"number"`
	Promoter string       `json:"promoter"`
	Nonce    string       `json:"nonce"`
}

// Identity is a node.
type Identity struct {
	ID   string // fingerprint of its key
	Name string // for people
}

// PairName returns the name of a pair from the ids of its nodes, in any order.
func PairName(a, b string) string {
	ids := []string{a, b}
	slices.Sort(ids)
	sum := sha256.Sum256([]byte(strings.Join(ids, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// Errors of a store; everything else means that it could not be asked.
var (
	// errGone: the lease has ended, or its key is somebody else's.
	errGone = errors.New("the lease has ended")
	// errUnconfirmed: it is not sure that the answer is that of the leader.
	errUnconfirmed = errors.New("etcd's leader has changed meanwhile")
)

// TakenError says who has the lease.
type TakenError struct{ Holder Identity }

func (e *TakenError) Error() string {
	return fmt.Sprintf("the lease is held by %s", e.Holder.Name)
}

// EpochError says that an epoch can't be recorded.
type EpochError struct{ Found, Wanted Epoch }

func (e *EpochError) Error() string {
	return fmt.Sprintf("found epoch %d of %.12s recorded in the coordination, want one below %d, or this one itself",
		e.Found.Number, e.Found.Promoter, e.Wanted.Number)
}

// grant is a lease that this node holds.
type grant struct {
	id  int64 // of the lease
	key int64 // revision at which the holder's key was made
}

// store is the coordination, as a Keeper needs it. Calls wait, until their context ends. One
// that could not ask asks somebody else the next time, if there are several.
type store interface {
	// acquire makes a lease and the holder's key. A *TakenError: another node has it.
	acquire(ctx context.Context, ttl time.Duration, self holder) (grant, Epoch, error)
	// renew makes the lease's time begin anew, and proves it.
	renew(ctx context.Context, g grant) (Epoch, error)
	// record writes an epoch if the grant still holds, and none is recorded that forbids it.
	record(ctx context.Context, g grant, e Epoch) error
	// bar binds the holder's key, with another value, to no lease: it stays.
	bar(ctx context.Context, g grant, self holder) error
	// revoke ends the lease.
	revoke(ctx context.Context, g grant) error
	// who returns whose the lease is, the zero Identity if nobody's, and the recorded epoch.
	who(ctx context.Context) (Identity, Epoch, error)
	close() error
}

// mayFollow reports whether e may be recorded after found.
func (e Epoch) mayFollow(found Epoch) bool { return e.Number > found.Number || e == found }
