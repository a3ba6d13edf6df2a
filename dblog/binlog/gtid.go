package binlog

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// gtid is a global transaction identifier, written "domain-server-sequence".
type gtid struct {
	domain, server uint32
	seq            uint64
}

func (g gtid) String() string { return fmt.Sprintf("%d-%d-%d", g.domain, g.server, g.seq) }

// gtidState has the newest transaction of each domain: a place in the history of a
// MariaDB server.
type gtidState map[uint32]gtid

// parseState reads a list such as "0-1-100,1-2-3", as in gtid_slave_pos.
func parseState(s string) (gtidState, error) {
	st := make(gtidState)
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		g, err := parseGTID(part)
		if err != nil {
			return nil, err
		}
		st[g.domain] = g
	}
	return st, nil
}

func parseGTID(s string) (gtid, error) {
	f := strings.Split(s, "-")
	if len(f) != 3 {
		return gtid{}, fmt.Errorf("%q is no GTID, want DOMAIN-SERVER-SEQUENCE", s)
	}
	domain, err1 := strconv.ParseUint(f[0], 10, 32)
	server, err2 := strconv.ParseUint(f[1], 10, 32)
	seq, err3 := strconv.ParseUint(f[2], 10, 64)
	if err := cmp.Or(err1, err2, err3); err != nil {
		return gtid{}, fmt.Errorf("%q is no GTID: %w", s, err)
	}
	return gtid{uint32(domain), uint32(server), seq}, nil
}

// String lists the state as the server does, by domain.
func (s gtidState) String() string {
	var list []string
	for _, domain := range slices.Sorted(maps.Keys(s)) {
		list = append(list, s[domain].String())
	}
	return strings.Join(list, ",")
}

func (s gtidState) empty() bool { return len(s) == 0 }

func (s gtidState) equal(other history) bool {
	t, ok := other.(gtidState)
	return ok && maps.Equal(s, t)
}

// within reports whether t has got as far as s in every domain of s. Sequence numbers
// ascend within a domain (gtid_strict_mode).
func (s gtidState) within(other history) bool {
	t, ok := other.(gtidState)
	if !ok {
		return false
	}
	for domain, g := range s {
		if h, ok := t[domain]; !ok || h.seq < g.seq {
			return false
		}
	}
	return true
}

func (s gtidState) has(t transaction) bool {
	g, ok := t.(gtid)
	newest, known := s[g.domain]
	return ok && known && g.seq <= newest.seq
}

func (s gtidState) with(t transaction) history {
	st := make(gtidState, len(s)+1)
	maps.Copy(st, s)
	if g, ok := t.(gtid); ok {
		st[g.domain] = g
	}
	return st
}

// joined has the domains of both; of one that is in both, the other's transaction.
func (s gtidState) joined(other history) history {
	st := maps.Clone(s)
	if st == nil {
		st = make(gtidState)
	}
	if t, ok := other.(gtidState); ok {
		maps.Copy(st, t)
	}
	return st
}

// lacking returns the domains that another one hasn't brought to where they are here.
func (s gtidState) lacking(other history) history {
	st := make(gtidState)
	t, _ := other.(gtidState)
	for domain, g := range s {
		if t[domain] != g {
			st[domain] = g
		}
	}
	return st
}
