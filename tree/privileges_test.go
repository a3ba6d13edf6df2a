package tree

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"repld/change"
)

func TestKeepable(t *testing.T) {
	all := Privileges(0)
	for _, bit := range toKeep {
		all |= 1 << bit
	}
	m := change.Meta{Mode: 0o6755, UID: 1, GID: 2, Mtime: change.Time{Sec: 3}, Xattrs: []change.Xattr{
		{Name: "security.capability", Value: []byte("c")}, {Name: "security.x", Value: []byte("x")},
		{Name: "trusted.t", Value: []byte("t")}, {Name: "user.u", Value: []byte("u")},
	}}
	without := func(names ...string) change.Meta {
		c := m
		c.Xattrs = slices.DeleteFunc(slices.Clone(m.Xattrs), func(x change.Xattr) bool { return slices.Contains(names, x.Name) })
		return c
	}
	noSetgid := m
	noSetgid.Mode = 0o4755
	for _, c := range []struct {
		name string
		have Privileges
		want change.Meta
	}{
		{"all", all, m},
		{"none", 0, m.Portable()},
		{"no CAP_CHOWN", all &^ (1 << unix.CAP_CHOWN), m.Portable()},
		{"no CAP_FOWNER", all &^ (1 << unix.CAP_FOWNER), m.Portable()},
		{"no CAP_FSETID", all &^ (1 << unix.CAP_FSETID), noSetgid},
		{"no CAP_SETFCAP", all &^ (1 << unix.CAP_SETFCAP), without("security.capability")},
		{"no CAP_SYS_ADMIN", all &^ (1 << unix.CAP_SYS_ADMIN), without("security.x", "trusted.t")},
	} {
		if got := c.have.Keepable(m); !got.Equal(&c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	if len(m.Xattrs) != 4 || m.Xattrs[3].Name != "user.u" {
		t.Errorf("the original was changed: %+v", m.Xattrs)
	}
}

func TestLacks(t *testing.T) {
	have := Privileges(1<<unix.CAP_FOWNER | 1<<unix.CAP_DAC_READ_SEARCH)
	if got := have.ReadLacks(); !slices.Equal(got, []string{"CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}) {
		t.Errorf("reading lacks %q", got)
	}
	if got := have.KeepLacks(); len(got) != len(toKeep)-1 || slices.Contains(got, "CAP_FOWNER") {
		t.Errorf("keeping lacks %q", got)
	}
}
