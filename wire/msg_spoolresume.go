package wire

import (
	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// SpoolResume says that a spool of the standby was opened anew while the session
// goes on. The stream that there was has ended; the primary opens another one.
type SpoolResume struct {
	Group string
	Spool SpoolEnd
}

// Type implements [Message].
func (*SpoolResume) Type() Type { return TypeSpoolResume }

func (m *SpoolResume) toProto() proto.Message {
	return &wirepb.SpoolResume{Group: m.Group, Spool: spoolEndProto(&m.Spool)}
}

func (m *SpoolResume) fromProto(body []byte) error {
	var p wirepb.SpoolResume
	if err := parse(body, &p); err != nil {
		return err
	}
	*m = SpoolResume{Group: p.Group, Spool: spoolEnd(p.Spool)}
	return nil
}

func (m *SpoolResume) validate() error {
	if err := m.Spool.validate(); err != nil {
		return err
	}
	return checkName("group", m.Group)
}
