package wire

import (
	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// Resume opens the session of one group: the standby says what it has.
type Resume struct {
	Group    string
	Position change.LogPosition // end of the standby's log; zero without a log
	Applied  change.BarrierID   // zero: none yet
	HasBase  bool               // the standby's catalog holds a complete base
	Spools   []SpoolEnd         // of its databases, at most MaxSpools
}

// Type implements [Message].
func (*Resume) Type() Type { return TypeResume }

func (m *Resume) toProto() proto.Message {
	p := &wirepb.Resume{Group: m.Group, Position: positionProto(m.Position), Applied: barrierProto(m.Applied), HasBase: m.HasBase}
	for i := range m.Spools {
		p.Spools = append(p.Spools, spoolEndProto(&m.Spools[i]))
	}
	return p
}

func (m *Resume) fromProto(body []byte) error {
	var p wirepb.Resume
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = Resume{Group: p.Group, Position: f.position(p.Position), Applied: barrierID(p.Applied), HasBase: p.HasBase}
	for _, s := range p.Spools {
		m.Spools = append(m.Spools, spoolEnd(s))
	}
	return f.err
}

func (m *Resume) validate() error {
	if err := checkSpools(len(m.Spools)); err != nil {
		return err
	}
	for i := range m.Spools {
		if err := m.Spools[i].validate(); err != nil {
			return err
		}
	}
	return checkName("group", m.Group)
}
