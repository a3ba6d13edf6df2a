package wire

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"repld/change"
	"repld/wire/wirepb"
)

// Heartbeat is what the primary says about its newest barrier, all ages counted
// on its monotonic clock at sending. The receiver counts on from receipt on its own.
type Heartbeat struct {
	Group         string
	Captured      change.BarrierID // newest barrier of the primary; zero: none yet
	CutAge        time.Duration    // since Captured was cut
	Confirmed     bool             // nothing had changed since Captured, as of ConfirmedAge ago
	ConfirmedAge  time.Duration
	OldestPending time.Duration // age of the oldest change that the standby has not applied, as far as the sender knows; 0: none
	PendingBytes  uint64
	PendingFiles  uint64
	EndOffset     uint64 // end of the primary's log
}

// Type implements [Message].
func (*Heartbeat) Type() Type { return TypeHeartbeat }

func (m *Heartbeat) toProto() proto.Message {
	return &wirepb.Heartbeat{Group: m.Group, Captured: barrierProto(m.Captured), CutAgeNanos: uint64(m.CutAge),
		Confirmed: m.Confirmed, ConfirmedAgeNanos: uint64(m.ConfirmedAge), OldestPendingNanos: uint64(m.OldestPending),
		PendingBytes: m.PendingBytes, PendingFiles: m.PendingFiles, EndOffset: m.EndOffset}
}

func (m *Heartbeat) fromProto(body []byte) error {
	var p wirepb.Heartbeat
	if err := parse(body, &p); err != nil {
		return err
	}
	var f fields
	*m = Heartbeat{Group: p.Group, Captured: barrierID(p.Captured), CutAge: f.duration("cut age", p.CutAgeNanos),
		Confirmed: p.Confirmed, ConfirmedAge: f.duration("confirmed age", p.ConfirmedAgeNanos),
		OldestPending: f.duration("pending age", p.OldestPendingNanos),
		PendingBytes:  p.PendingBytes, PendingFiles: p.PendingFiles, EndOffset: p.EndOffset}
	return f.err
}

func (m *Heartbeat) validate() error {
	return errors.Join(checkName("group", m.Group), checkDuration("cut age", m.CutAge),
		checkDuration("confirmed age", m.ConfirmedAge), checkDuration("pending age", m.OldestPending))
}
