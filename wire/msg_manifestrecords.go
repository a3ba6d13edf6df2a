package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// MaxManifestRecords is the longest Records of a [ManifestRecords] in bytes.
const MaxManifestRecords = 1 << 20

// ManifestRecords carries whole encoded records of the log's format, one after
// the other. They are not checked here.
type ManifestRecords struct{ Records []byte } // 1 … MaxManifestRecords bytes

// Type implements [Message].
func (*ManifestRecords) Type() Type { return TypeManifestRecords }

func (m *ManifestRecords) toProto() proto.Message { return &wirepb.ManifestRecords{Records: m.Records} }

func (m *ManifestRecords) fromProto(body []byte) error {
	var p wirepb.ManifestRecords
	if err := parse(body, &p); err != nil {
		return err
	}
	m.Records = p.Records
	return nil
}

func (m *ManifestRecords) validate() error {
	if len(m.Records) == 0 || len(m.Records) > MaxManifestRecords {
		return fmt.Errorf("records of %d bytes, want 1 to %d", len(m.Records), MaxManifestRecords)
	}
	return nil
}
