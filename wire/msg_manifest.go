package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/change"
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

// ManifestEnd says that the manifest is complete.
type ManifestEnd struct{}

// Type implements [Message].
func (*ManifestEnd) Type() Type { return TypeManifestEnd }

func (m *ManifestEnd) toProto() proto.Message { return &wirepb.ManifestEnd{} }

func (m *ManifestEnd) fromProto(body []byte) error { return parse(body, &wirepb.ManifestEnd{}) }

func (m *ManifestEnd) validate() error { return nil }
