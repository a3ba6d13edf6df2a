package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// Limits of one [VerifyReport]. More differences take several reports; a longer
// path is cut by the sender.
const (
	MaxDifferences    = 64
	MaxDifferencePath = 4096
)

// Difference is one object that isn't as it should be.
type Difference struct {
	Path string // "tree/path", any bytes
	What string // for people
}

// VerifyReport answers [VerifyRequest]: any number with Done unset and one with it
// set. The sums are those so far.
type VerifyReport struct {
	Call        uint64
	Barrier     change.BarrierID // that the tree was compared with
	Tree        change.Digest    // of the tree at Barrier
	Files       uint64           // read so far
	Bytes       uint64
	Differences []Difference // at most MaxDifferences, found since the last report
	Total       uint64       // differences so far, also those that aren't listed
	Repaired    uint64       // of Total
	Done        bool
	Error       *Refusal // with Done: why it was given up; nil: it wasn't
}

// Type implements [Message].
func (*VerifyReport) Type() Type { return TypeVerifyReport }

func (m *VerifyReport) toProto() proto.Message {
	p := &wirepb.VerifyReport{Call: m.Call, Barrier: barrierProto(m.Barrier), Tree: optional(m.Tree[:]),
		Files: m.Files, Bytes: m.Bytes, Total: m.Total, Repaired: m.Repaired, Done: m.Done, Error: refusalProto(m.Error)}
	for _, d := range m.Differences {
		p.Differences = append(p.Differences, &wirepb.Difference{Path: []byte(d.Path), What: d.What})
	}
	return p
}

func (m *VerifyReport) fromProto(body []byte) error {
	var p wirepb.VerifyReport
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = VerifyReport{Call: p.Call, Barrier: barrierID(p.Barrier), Files: p.Files, Bytes: p.Bytes,
		Total: p.Total, Repaired: p.Repaired, Done: p.Done, Error: f.refusal(p.Error)}
	f.fixed("tree digest", m.Tree[:], p.Tree, true)
	for _, d := range p.Differences {
		m.Differences = append(m.Differences, Difference{Path: string(d.Path), What: d.What})
	}
	return f.err
}

func (m *VerifyReport) validate() error {
	if m.Call == 0 {
		return errNoCall
	}
	if len(m.Differences) > MaxDifferences {
		return fmt.Errorf("%d differences, the limit is %d", len(m.Differences), MaxDifferences)
	}
	for _, d := range m.Differences {
		if len(d.Path) > MaxDifferencePath {
			return fmt.Errorf("path of %d bytes, the limit is %d", len(d.Path), MaxDifferencePath)
		}
		if err := checkText("difference", d.What, MaxRefusalText); err != nil {
			return err
		}
	}
	if m.Error != nil && !m.Done {
		return errors.New("an error before the last report")
	}
	return m.Error.validate()
}
