package wire

import (
	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// ManifestStream opens a stream on which the standby gets a base's manifest: one
// [ManifestStart], any number of [ManifestRecords], one [ManifestEnd].
type ManifestStream struct{ Group string }

// Type implements [Message].
func (*ManifestStream) Type() Type { return TypeManifestStream }

func (m *ManifestStream) toProto() proto.Message { return &wirepb.ManifestStream{Group: m.Group} }

func (m *ManifestStream) fromProto(body []byte) error {
	var p wirepb.ManifestStream
	if err := parse(body, &p); err != nil {
		return err
	}
	*m = ManifestStream{Group: p.Group}
	return nil
}

func (m *ManifestStream) validate() error { return checkName("group", m.Group) }
