package wire

import (
	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// ManifestStart says what the manifest is of.
type ManifestStart struct {
	Position change.LogPosition // where the log continues after this base
	Nodes    uint64             // how many there are, directories included
	Files    uint64             // regular files
	Bytes    uint64             // sum of their sizes
}

// Type implements [Message].
func (*ManifestStart) Type() Type { return TypeManifestStart }

func (m *ManifestStart) toProto() proto.Message {
	return &wirepb.ManifestStart{Position: positionProto(m.Position), Nodes: m.Nodes, Files: m.Files, Bytes: m.Bytes}
}

func (m *ManifestStart) fromProto(body []byte) error {
	var p wirepb.ManifestStart
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = ManifestStart{Position: f.position(p.Position), Nodes: p.Nodes, Files: p.Files, Bytes: p.Bytes}
	return f.err
}

func (m *ManifestStart) validate() error { return nil }
