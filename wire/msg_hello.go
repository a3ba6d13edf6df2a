package wire

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// The wire formats that this build speaks. Version 1 also says that the log's
// records, which cross the link as they stand on disk, are of log format 1.
const (
	MinVersion = 1
	MaxVersion = 1
)

// Role is what a node does now. The numbers are transmitted.
type Role uint8

// The roles.
const (
	RoleProduction Role = 1
	RoleStandby    Role = 2
	RoleDown       Role = 3
)

func (r Role) String() string {
	switch r {
	case RoleProduction:
		return "production"
	case RoleStandby:
		return "standby"
	case RoleDown:
		return "down"
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// Designation is what a node is meant to be. The numbers are transmitted.
type Designation uint8

// The designations.
const (
	DesignatedPrimary   Designation = 1
	DesignatedSecondary Designation = 2
)

func (d Designation) String() string {
	switch d {
	case DesignatedPrimary:
		return "primary"
	case DesignatedSecondary:
		return "secondary"
	}
	return fmt.Sprintf("designation(%d)", uint8(d))
}

// Hello is the first message of either side. The versions and the clock are
// filled in by this package when they are zero.
type Hello struct {
	MinVersion, MaxVersion uint32 // the wire formats that the sender speaks
	Software               string // version of the program, for people
	Node                   string // the sender's name
	Role                   Role
	Epoch                  change.Epoch
	Designated             Designation
	Clock                  time.Time // the sender's wall clock at sending, UTC
	Joining                bool      // a Join follows; set by Dial
	// Group is the consistency group that the connection is for; "": the pair itself.
	Group string
	// Contents is what the group consists of on the sender's side; nil: it doesn't
	// say, as older nodes, or the names together are longer than [MaxContents].
	Contents *Contents `json:",omitempty"`
}

// MaxContents bounds the names in [Contents], all together, in bytes: a Hello must
// stay as short as every version reads it.
const MaxContents = 2 << 10

// Contents are the names of what a group consists of.
type Contents struct {
	Trees, Databases []string
}

// Says reports whether the names are few enough to be sent.
func (c *Contents) Says() bool {
	size := 0
	for _, name := range slices.Concat(c.Trees, c.Databases) {
		size += len(name) + 4 // and what protobuf puts before it
	}
	return size <= MaxContents
}

func (c *Contents) toProto() *wirepb.Contents {
	if c == nil {
		return nil
	}
	return &wirepb.Contents{Trees: c.Trees, Databases: c.Databases}
}

// Type implements [Message].
func (*Hello) Type() Type { return TypeHello }

func (m *Hello) toProto() proto.Message {
	return &wirepb.Hello{MinVersion: m.MinVersion, MaxVersion: m.MaxVersion, Software: m.Software, Node: m.Node,
		Role: uint32(m.Role), Epoch: uint64(m.Epoch), Designated: uint32(m.Designated), WallNanos: m.Clock.UnixNano(),
		Joining: m.Joining, Group: m.Group, Contents: m.Contents.toProto()}
}

func (m *Hello) fromProto(body []byte) error {
	var p wirepb.Hello
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = Hello{MinVersion: p.MinVersion, MaxVersion: p.MaxVersion, Software: p.Software, Node: p.Node,
		Role: Role(f.byteNumber("role", p.Role)), Epoch: change.Epoch(p.Epoch),
		Designated: Designation(f.byteNumber("designation", p.Designated)), Clock: time.Unix(0, p.WallNanos).UTC(),
		Joining: p.Joining, Group: p.Group}
	if c := p.Contents; c != nil {
		m.Contents = &Contents{Trees: c.Trees, Databases: c.Databases}
	}
	return f.err
}

// validate lets roles and designations pass that it doesn't know: a later version
// may send them, and the version is what must be refused then.
func (m *Hello) validate() error {
	if m.MinVersion == 0 || m.MinVersion > m.MaxVersion {
		return fmt.Errorf("wire formats %d to %d make no range", m.MinVersion, m.MaxVersion)
	}
	if m.Role == 0 || m.Designated == 0 {
		return errors.New("role or designation is missing")
	}
	if err := checkName("node name", m.Node); err != nil {
		return err
	}
	if err := checkText("group", m.Group, MaxName); err != nil {
		return err
	}
	if err := m.Contents.validate(); err != nil {
		return err
	}
	return checkText("software version", m.Software, MaxName)
}

func (c *Contents) validate() error {
	if c == nil {
		return nil
	}
	for _, name := range slices.Concat(c.Trees, c.Databases) {
		if err := checkName("name in a group", name); err != nil {
			return err
		}
	}
	if !c.Says() {
		return fmt.Errorf("the names in a group take more than %d bytes", MaxContents)
	}
	return nil
}

// agree returns the highest version that both sides speak.
func agree(local, peer *Hello) (uint32, error) {
	version := min(local.MaxVersion, peer.MaxVersion)
	if version >= max(local.MinVersion, peer.MinVersion) {
		return version, nil
	}
	old, recent := local, peer
	if peer.MaxVersion < local.MaxVersion {
		old, recent = peer, local
	}
	return 0, &RefusedError{Code: CodeVersion,
		Text: fmt.Sprintf("%s speaks wire format %s (repld %s), %s speaks %s (repld %s); they have none in common",
			old.Node, span(old), old.Software, recent.Node, span(recent), recent.Software),
		Hint: fmt.Sprintf("upgrade repld on %s; of two nodes upgrade the standby first", old.Node)}
}

func span(h *Hello) string {
	if h.MinVersion == h.MaxVersion {
		return fmt.Sprint(h.MaxVersion)
	}
	return fmt.Sprintf("%d to %d", h.MinVersion, h.MaxVersion)
}
