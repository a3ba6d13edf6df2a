package wire

import (
	"fmt"

	"repld/change"
	"repld/wire/wirepb"
)

// MaxSpools is the number of databases that a group may have.
const MaxSpools = 64

// SpoolEnd says where a database's spool on the standby ends, and asks for what
// follows.
type SpoolEnd struct {
	Database string
	Call     uint64                // the standby's number of this request, from 1, repeated in SpoolStream
	End      change.StreamPosition // zero: the spool is empty
}

func (m *SpoolEnd) validate() error {
	if m.Call == 0 {
		return errNoCall
	}
	return checkName("database", m.Database)
}

func spoolEndProto(m *SpoolEnd) *wirepb.SpoolEnd {
	return &wirepb.SpoolEnd{Database: m.Database, Call: m.Call, End: streamProto(m.End)}
}

func spoolEnd(p *wirepb.SpoolEnd) SpoolEnd {
	return SpoolEnd{Database: p.GetDatabase(), Call: p.GetCall(), End: streamPosition(p.GetEnd())}
}

func streamProto(p change.StreamPosition) *wirepb.StreamPosition {
	if p.IsZero() {
		return nil
	}
	return &wirepb.StreamPosition{Chapter: p.Chapter, Offset: p.Offset}
}

func streamPosition(p *wirepb.StreamPosition) change.StreamPosition {
	return change.StreamPosition{Chapter: p.GetChapter(), Offset: p.GetOffset()}
}

// checkSpools judges how many databases a message names.
func checkSpools(n int) error {
	if n > MaxSpools {
		return fmt.Errorf("%d databases, there may be %d", n, MaxSpools)
	}
	return nil
}
