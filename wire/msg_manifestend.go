package wire

import (
	"google.golang.org/protobuf/proto"

	"repld/wire/wirepb"
)

// ManifestEnd says that the manifest is complete.
type ManifestEnd struct{}

// Type implements [Message].
func (*ManifestEnd) Type() Type { return TypeManifestEnd }

func (m *ManifestEnd) toProto() proto.Message { return &wirepb.ManifestEnd{} }

func (m *ManifestEnd) fromProto(body []byte) error { return parse(body, &wirepb.ManifestEnd{}) }

func (m *ManifestEnd) validate() error { return nil }
