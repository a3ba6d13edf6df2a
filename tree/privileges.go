package tree

import (
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"repld/change"
)

// Privileges are the capabilities of this process (capabilities(7)) that decide
// what of a tree it can read, and keep on a standby. They are taken as they were at
// the first call of [Held].
type Privileges uint64

// capabilities are those that matter, with their names, by what breaks first.
var capabilities = []struct {
	bit  uint
	name string
}{
	{unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"}, // write where owners and modes forbid it
	{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"},
	{unix.CAP_CHOWN, "CAP_CHOWN"},
	{unix.CAP_FOWNER, "CAP_FOWNER"},         // modes, times and attributes of what others own; O_NOATIME
	{unix.CAP_FSETID, "CAP_FSETID"},         // setgid for a group that is not ours
	{unix.CAP_MKNOD, "CAP_MKNOD"},           // device nodes
	{unix.CAP_SETFCAP, "CAP_SETFCAP"},       // security.capability
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},   // trusted.* and security.*; fanotify
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"}, // other users' mappings
}

// toRead are what a primary needs, toKeep what a standby needs.
var (
	toRead = []uint{unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE}
	toKeep = []uint{unix.CAP_DAC_OVERRIDE, unix.CAP_CHOWN, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_MKNOD, unix.CAP_SETFCAP, unix.CAP_SYS_ADMIN}
)

// Held returns the privileges of this process.
func Held() Privileges { return held() }

var held = sync.OnceValue(func() Privileges {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return 0
	}
	return Privileges(data[0].Effective) | Privileges(data[1].Effective)<<32
})

func (p Privileges) has(bit uint) bool { return p>>bit&1 != 0 }

// ReadLacks names what is missing for reading everything of a tree, and noticing
// every change in it.
func (p Privileges) ReadLacks() []string { return p.lacks(toRead) }

// KeepLacks names what is missing for keeping everything of a tree.
func (p Privileges) KeepLacks() []string { return p.lacks(toKeep) }

func (p Privileges) lacks(wanted []uint) []string {
	var names []string
	for _, c := range capabilities {
		for _, bit := range wanted {
			if bit == c.bit && !p.has(bit) {
				names = append(names, c.name)
			}
		}
	}
	return names
}

// Devices reports whether device nodes can be made.
func (p Privileges) Devices() bool { return p.has(unix.CAP_MKNOD) }

// Keepable returns what of m a standby with these privileges can be held to.
func (p Privileges) Keepable(m change.Meta) change.Meta {
	if !p.has(unix.CAP_CHOWN) || !p.has(unix.CAP_FOWNER) || !p.has(unix.CAP_DAC_OVERRIDE) {
		return m.Portable()
	}
	if !p.has(unix.CAP_FSETID) {
		m.Mode &^= unix.S_ISGID
	}
	var kept []change.Xattr
	for i, x := range m.Xattrs {
		keep := true
		switch {
		case x.Name == "security.capability":
			keep = p.has(unix.CAP_SETFCAP)
		case strings.HasPrefix(x.Name, "trusted."), strings.HasPrefix(x.Name, "security."):
			keep = p.has(unix.CAP_SYS_ADMIN)
		}
		switch {
		case !keep && kept == nil:
			kept = append(make([]change.Xattr, 0, len(m.Xattrs)), m.Xattrs[:i]...)
		case keep && kept != nil:
			kept = append(kept, x)
		}
	}
	if kept != nil {
		m.Xattrs = kept
	}
	return m
}
