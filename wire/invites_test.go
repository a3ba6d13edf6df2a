package wire

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

type testClock struct{ now time.Time }

func (c *testClock) Now() time.Time      { return c.now }
func (c *testClock) Mono() time.Duration { return 0 }

func TestInvitesWorkOnceAndOutliveRestarts(t *testing.T) {
	clock := &testClock{now: time.Unix(1795248000, 0).UTC()}
	var stored []byte
	var broken error
	open := func() *Invites {
		var saved SavedInvites
		if stored != nil {
			if err := json.Unmarshal(stored, &saved); err != nil {
				t.Fatal(err)
			}
		}
		v, err := NewInvites(InvitesOptions{Clock: clock, Saved: saved, Store: func(s SavedInvites) error {
			if broken == nil {
				stored, _ = json.Marshal(s)
			}
			return broken
		}})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := open()
	if v.Open() || (*Invites)(nil).Open() {
		t.Error("open without an invitation")
	}
	first, err := v.Issue("a:1", Fingerprint{1})
	if err != nil {
		t.Fatal(err)
	}
	second, _ := v.Issue("a:1", Fingerprint{1})
	if first.Secret == second.Secret {
		t.Error("secrets repeat")
	}
	if strings.Contains(string(stored), hex.EncodeToString(first.Secret[:])) {
		t.Error("the secret is stored")
	}
	v = open()
	broken = errors.New("disk full")
	if err := v.Redeem(first.Secret); !errors.Is(err, ErrInviteStore) {
		t.Errorf("got %v, want %v", err, ErrInviteStore)
	}
	if _, err := v.Issue("a:1", Fingerprint{1}); !errors.Is(err, ErrInviteStore) {
		t.Errorf("got %v, want %v", err, ErrInviteStore)
	}
	broken = nil
	if err := v.Redeem(first.Secret); err != nil {
		t.Errorf("after the store was mended: %v", err)
	}
	for range 2 {
		if err := v.Redeem(first.Secret); !errors.Is(err, ErrNoInvitation) {
			t.Errorf("got %v, want %v", err, ErrNoInvitation)
		}
		v = open()
	}
	clock.now = second.Expires
	if err := v.Redeem(second.Secret); !errors.Is(err, ErrNoInvitation) || v.Open() {
		t.Errorf("after an hour: got %v, want %v", err, ErrNoInvitation)
	}
	if _, err := v.Issue("nonsense", Fingerprint{1}); err == nil {
		t.Error("an invitation to nowhere")
	}
	third, _ := v.Issue("a:1", Fingerprint{1})
	if err := v.Revoke(); err != nil || v.Redeem(third.Secret) == nil {
		t.Errorf("revoked, but redeemable; %v", err)
	}
	if _, err := NewInvites(InvitesOptions{Saved: SavedInvites{Open: []SavedInvite{{SecretHash: "x"}}}}); err == nil {
		t.Error("a broken state was taken")
	}
}

func TestOneOfManyRedeemsAnInvitation(t *testing.T) {
	v, _ := NewInvites(InvitesOptions{})
	token, err := v.Issue("a:1", Fingerprint{1})
	if err != nil {
		t.Fatal(err)
	}
	for range maxInvites - 1 {
		v.Issue("a:1", Fingerprint{1})
	}
	var wg sync.WaitGroup
	won := make(chan struct{}, 16)
	for range cap(won) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if v.Redeem(token.Secret) == nil {
				won <- struct{}{}
			}
		}()
	}
	wg.Wait()
	if len(won) != 1 {
		t.Errorf("%d redeemed it", len(won))
	}
	for range 2 * maxInvites {
		v.Issue("a:1", Fingerprint{1})
	}
	if n := len(v.Save().Open); n != maxInvites {
		t.Errorf("%d invitations are open, the limit is %d", n, maxInvites)
	}
}

func TestGateBoundsHandshakes(t *testing.T) {
	g := newGate()
	info := func(host byte, port int) *quic.ClientInfo {
		return &quic.ClientInfo{RemoteAddr: &net.UDPAddr{IP: net.IPv4(192, 0, 2, host), Port: port}}
	}
	var leave []func()
	for host := range byte(maxHalfOpen / maxHalfOpenAddress) {
		for port := range maxHalfOpenAddress {
			if got, want := g.verifyAddress(nil), len(leave) >= retryHalfOpen; got != want {
				t.Errorf("with %d under way addresses are verified: %v", len(leave), got)
			}
			ctx, err := g.enter(t.Context(), info(host, port+1))
			if err != nil {
				t.Fatal(err)
			}
			leave = append(leave, func() { g.leave(ctx) })
		}
		if _, err := g.enter(t.Context(), info(host, 99)); err == nil {
			t.Error("one more than an address may have")
		}
	}
	if _, err := g.enter(t.Context(), info(200, 1)); err == nil {
		t.Error("one more than there may be")
	}
	for _, f := range leave {
		f()
		f()
	}
	if g.total != 0 || len(g.byAddr) != 0 {
		t.Errorf("left over: %d, %v", g.total, g.byAddr)
	}
	if g.verifyAddress(nil) {
		t.Error("addresses are still verified")
	}
}
