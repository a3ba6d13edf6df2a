package wire

import (
	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// SpoolStream opens a stream that carries a database's replication stream from the
// primary: any number of [SpoolBlock]. The standby sends nothing on it but a
// [Refusal], after which it takes no more.
type SpoolStream struct {
	Group    string
	Database string
	Call     uint64 // of the SpoolEnd that asked for it
}

// Type implements [Message].
func (*SpoolStream) Type() Type { return TypeSpoolStream }

func (m *SpoolStream) toProto() proto.Message {
	return &wirepb.SpoolStream{Group: m.Group, Database: m.Database, Call: m.Call}
}

func (m *SpoolStream) fromProto(body []byte) error {
	var p wirepb.SpoolStream
	if err := parse(body, &p); err != nil {
		return err
	}
	*m = SpoolStream{Group: p.Group, Database: p.Database, Call: p.Call}
	return nil
}

func (m *SpoolStream) validate() error {
	if m.Call == 0 {
		return errNoCall
	}
	if err := checkName("database", m.Database); err != nil {
		return err
	}
	return checkName("group", m.Group)
}
