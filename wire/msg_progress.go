package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// Phase is how far a standby's group is. The numbers are transmitted.
type Phase uint8

// The phases that a standby tells of. That a link is down nobody can send.
const (
	PhaseSeeding    Phase = 1
	PhaseStreaming  Phase = 2
	PhaseCatchingUp Phase = 3
	PhasePaused     Phase = 4
	PhaseHalted     Phase = 5
)

func (p Phase) String() string {
	switch p {
	case PhaseSeeding:
		return "seeding"
	case PhaseStreaming:
		return "streaming"
	case PhaseCatchingUp:
		return "catching-up"
	case PhasePaused:
		return "paused"
	case PhaseHalted:
		return "halted"
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// Progress is the standby's acknowledgement and the state of its seed.
type Progress struct {
	Group          string
	Durable        uint64           // log offset up to which the standby has fsynced
	Received       change.BarrierID // newest barrier that is durable
	Applied        change.BarrierID // newest barrier that the tree holds
	AppliedOffset  uint64           // log offset after the applied barrier's record
	Phase          Phase
	SeedFilesDone  uint64
	SeedFilesTotal uint64 // 0: not known yet, or no seed is going on
	SeedBytesDone  uint64
	SeedBytesTotal uint64
	AppliedDigest  change.Digest   // of the tree at Applied
	Spools         []SpoolProgress // of its databases, at most MaxSpools
	// Lacks is the newest barrier that the standby can't apply, because data of its files or
	// of a database's stream is nowhere any more; a later one may do without. Zero: none.
	Lacks change.BarrierID
}

// Type implements [Message].
func (*Progress) Type() Type { return TypeProgress }

func (m *Progress) toProto() proto.Message {
	p := &wirepb.Progress{Group: m.Group, Durable: m.Durable, Received: barrierProto(m.Received),
		Applied: barrierProto(m.Applied), AppliedOffset: m.AppliedOffset, Phase: uint32(m.Phase),
		SeedFilesDone: m.SeedFilesDone, SeedFilesTotal: m.SeedFilesTotal,
		SeedBytesDone: m.SeedBytesDone, SeedBytesTotal: m.SeedBytesTotal, AppliedDigest: optional(m.AppliedDigest[:]), Lacks: barrierProto(m.Lacks)}
	for i := range m.Spools {
		p.Spools = append(p.Spools, spoolProgressProto(&m.Spools[i]))
	}
	return p
}

func (m *Progress) fromProto(body []byte) error {
	var p wirepb.Progress
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = Progress{Group: p.Group, Durable: p.Durable, Received: barrierID(p.Received), Applied: barrierID(p.Applied),
		AppliedOffset: p.AppliedOffset, Phase: Phase(f.byteNumber("phase", p.Phase)),
		SeedFilesDone: p.SeedFilesDone, SeedFilesTotal: p.SeedFilesTotal,
		SeedBytesDone: p.SeedBytesDone, SeedBytesTotal: p.SeedBytesTotal, Lacks: barrierID(p.Lacks)}
	f.fixed("digest", m.AppliedDigest[:], p.AppliedDigest, true)
	for _, s := range p.Spools {
		m.Spools = append(m.Spools, spoolProgress(s))
	}
	return f.err
}

func (m *Progress) validate() error {
	if m.Phase < PhaseSeeding || m.Phase > PhaseHalted {
		return fmt.Errorf("phase %d is unknown", m.Phase)
	}
	if err := checkSpools(len(m.Spools)); err != nil {
		return err
	}
	for i := range m.Spools {
		if err := checkName("database", m.Spools[i].Database); err != nil {
			return err
		}
	}
	return checkName("group", m.Group)
}
