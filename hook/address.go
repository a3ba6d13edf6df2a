package hook

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Address adds an address to an interface, and tells the neighbours, or removes it.
type Address struct {
	Prefix netip.Prefix // the address with the length of its network
	Dev    string       // the interface's name
	Remove bool         // false: add
}

func (a *Address) String() string {
	if a.Remove {
		return fmt.Sprintf("remove %s from %s", a.Prefix, a.Dev)
	}
	return fmt.Sprintf("add %s to %s", a.Prefix, a.Dev)
}

// announcements are sent this often, because one may be lost, with this pause.
// (RFC 4861 10, MAX_NEIGHBOR_ADVERTISEMENT; RFC 5227 1.1, ANNOUNCE_NUM)
const (
	announcements = 3
	announcePause = 100 * time.Millisecond
)

func (a *Address) apply(ctx context.Context) error {
	link, err := netlink.LinkByName(a.Dev)
	if err != nil {
		return fmt.Errorf("interface %s: %w", a.Dev, err)
	}
	address, err := netlink.ParseAddr(a.Prefix.String())
	if err != nil {
		return fmt.Errorf("address %s: %w", a.Prefix, err)
	}
	if a.Remove {
		if err := netlink.AddrDel(link, address); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove %s from %s: %w", a.Prefix, a.Dev, err)
		}
		return nil
	}
	if a.Prefix.Addr().Is6() {
		// The address must serve at once, so nobody waits for duplicate address detection:
		// that nobody else has it is what the change of role is about.
		address.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrReplace(link, address); err != nil {
		return fmt.Errorf("add %s to %s: %w", a.Prefix, a.Dev, err)
	}
	for i := range announcements {
		if i > 0 && !wait(ctx, announcePause) {
			return ctx.Err()
		}
		if err := announce(link.Attrs(), a.Prefix.Addr()); err != nil {
			return fmt.Errorf("tell the neighbours of %s that %s is here: %w", a.Dev, a.Prefix.Addr(), err)
		}
	}
	return nil
}
