package wire

import (
	"repld/change"
	"repld/wire/wirepb"
)

// SpoolProgress is how far the standby is with one database.
type SpoolProgress struct {
	Database string
	Durable  change.StreamPosition // what its spool holds for good; zero: nothing
	Replayed change.StreamPosition // what the replica has replayed; zero: not known
}

func spoolProgressProto(m *SpoolProgress) *wirepb.SpoolProgress {
	return &wirepb.SpoolProgress{Database: m.Database, Durable: streamProto(m.Durable), Replayed: streamProto(m.Replayed)}
}

func spoolProgress(p *wirepb.SpoolProgress) SpoolProgress {
	return SpoolProgress{Database: p.GetDatabase(), Durable: streamPosition(p.GetDurable()), Replayed: streamPosition(p.GetReplayed())}
}
