package control

import (
	"fmt"

	"repld/change"
)

// Barrier is a barrier's certificate.
type Barrier struct {
	ID          change.BarrierID `json:"id"`
	Epoch       change.Epoch     `json:"epoch"`
	Seq         uint64           `json:"seq"`
	CutAt       Time             `json:"cut_at"`
	ConfirmedAt Time             `json:"confirmed_at,omitzero"` // last proof that nothing changed since

	// The same as ages by the monotonic clock, which stay true when a clock is set.
	CutAge       *Seconds `json:"cut_age_seconds,omitempty"`
	ConfirmedAge *Seconds `json:"confirmed_age_seconds,omitempty"`

	Digest    change.Digest               `json:"digest,omitzero"`
	Databases map[string]DatabasePosition `json:"databases"`
	Rung      string                      `json:"rung"`
	Stall     Seconds                     `json:"stall_seconds"`
	Uncovered []string                    `json:"uncovered"`
}

// DatabasePosition is where in its log a database stood at a barrier.
type DatabasePosition struct {
	Engine   string `json:"engine"`   // "postgres", "mariadb", "mysql", "redis"
	Position string `json:"position"` // as the engine writes it, see [change.DatabasePosition]
}

// BarrierOf converts a certificate. What it does not hold, ConfirmedAt, stays
// unknown.
func BarrierOf(c change.Certificate) Barrier {
	b := Barrier{
		ID: c.ID, Epoch: c.ID.Epoch, Seq: c.ID.Seq,
		CutAt: TimeOf(c.CutAt), Digest: c.Tree,
		Databases: map[string]DatabasePosition{},
		Rung:      c.Rung.String(), Stall: Seconds(c.Stall),
		Uncovered: []string{},
	}
	b.Uncovered = append(b.Uncovered, c.Uncovered...)
	for _, d := range c.Databases {
		b.Databases[d.Name] = DatabasePosition{Engine: d.Engine, Position: d.String()}
	}
	return b
}

// BarrierState is how far a barrier has come.
type BarrierState string

// The states of a barrier, in their order.
const (
	BarrierCaptured BarrierState = "captured" // the primary has it
	BarrierReceived BarrierState = "received" // the standby has it durable
	BarrierApplied  BarrierState = "applied"  // the standby's tree is at it
)

// ParseBarrierState checks a word from a user.
func ParseBarrierState(s string) (BarrierState, error) {
	switch b := BarrierState(s); b {
	case BarrierCaptured, BarrierReceived, BarrierApplied:
		return b, nil
	}
	return "", fmt.Errorf("state of a barrier is %q: want captured, received or applied", s)
}

// BarrierRequest asks for a barrier that holds all that was done before the call.
type BarrierRequest struct {
	Group   string       `json:"group,omitempty"`           // "" where there is only one
	Wait    BarrierState `json:"wait,omitempty"`            // "" = captured
	Timeout Seconds      `json:"timeout_seconds,omitempty"` // 0 = no limit
}

// BarrierReply is the barrier that was asked for.
type BarrierReply struct {
	Barrier
	Group  string       `json:"group"`
	State  BarrierState `json:"state"` // the one waited for
	Waited Seconds      `json:"waited_seconds"`
}

// BarriersRequest asks for the barriers that a node holds.
type BarriersRequest struct {
	Group string
	Limit int    // 0 = all that the node holds
	Find  string // "" = all; else those with different versions of a path, on a standby
}

// BarrierEntry is one barrier of a [BarrierList].
type BarrierEntry struct {
	Barrier
	Age        *Seconds     `json:"age_seconds,omitempty"`
	State      BarrierState `json:"state,omitempty"`
	Position   *LogPosition `json:"position,omitempty"` // in the group's log, behind the barrier
	Files      *uint64      `json:"files,omitempty"`
	Bytes      *uint64      `json:"bytes,omitempty"`
	Rewindable bool         `json:"rewindable"`
	Version    *PathVersion `json:"version,omitempty"` // of the path that was asked for
}

// LogPosition is a place in a group's log; see [change.LogPosition].
type LogPosition struct {
	Incarnation string        `json:"incarnation"`
	Offset      uint64        `json:"offset"`
	Chain       change.Digest `json:"chain,omitzero"`
}

// LogPositionOf converts p.
func LogPositionOf(p change.LogPosition) LogPosition {
	return LogPosition{Incarnation: p.Incarnation.String(), Offset: p.Offset, Chain: p.Chain}
}

// BarrierList is what a node holds, newest first.
type BarrierList struct {
	Group    string         `json:"group"`
	Barriers []BarrierEntry `json:"barriers"`
}
