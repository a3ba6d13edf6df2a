package wire

import (
	"repld/change"
	"repld/wire/wirepb"
)

// SpoolProgress is how far the standby is with one database.
type SpoolProgress struct {
	Database string
	// Call is of the stream of which a part was taken, so that both are known to speak
	// of the same history; 0 before that.
	Call     uint64
	Durable  change.StreamPosition // what its spool holds for good; zero: nothing
	Replayed change.StreamPosition // what the replica has replayed; zero: not known
}

func spoolProgressProto(m *SpoolProgress) *wirepb.SpoolProgress {
	return &wirepb.SpoolProgress{Database: m.Database, Call: m.Call, Durable: streamProto(m.Durable), Replayed: streamProto(m.Replayed)}
}

func spoolProgress(p *wirepb.SpoolProgress) SpoolProgress {
	return SpoolProgress{Database: p.GetDatabase(), Call: p.GetCall(), Durable: streamPosition(p.GetDurable()), Replayed: streamPosition(p.GetReplayed())}
}
