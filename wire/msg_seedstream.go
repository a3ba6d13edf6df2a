package wire

import (
	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// SeedStream opens a stream on which the standby gets what a replica of a database
// is made from: any number of [SeedBlock], and one [SeedEnd].
type SeedStream struct {
	Group    string
	Database string
}

// Type implements [Message].
func (*SeedStream) Type() Type { return TypeSeedStream }

func (m *SeedStream) toProto() proto.Message {
	return &wirepb.SeedStream{Group: m.Group, Database: m.Database}
}

func (m *SeedStream) fromProto(body []byte) error {
	var p wirepb.SeedStream
	if err := parse(body, &p); err != nil {
		return err
	}
	*m = SeedStream{Group: p.Group, Database: p.Database}
	return nil
}

func (m *SeedStream) validate() error {
	if err := checkName("database", m.Database); err != nil {
		return err
	}
	return checkName("group", m.Group)
}
