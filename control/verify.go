package control

import "repld/change"

// VerifyRequest asks for proof that both trees are equal.
type VerifyRequest struct {
	Group  string `json:"group,omitempty"`
	Repair bool   `json:"repair,omitempty"` // mend the standby where it differs
	// Full compares both sides name by name even where their digests agree.
	Full bool `json:"full,omitempty"`
}

// VerifyProgress says how far a verification has come, on the slower side.
type VerifyProgress struct {
	FilesDone  uint64  `json:"files_done"`
	FilesTotal *uint64 `json:"files_total,omitempty"`
	BytesDone  uint64  `json:"bytes_done"`
	BytesTotal *uint64 `json:"bytes_total,omitempty"`
	Repairing  bool    `json:"repairing,omitempty"`
}

// VerifyReport is the outcome of a verification.
type VerifyReport struct {
	Group            string            `json:"group"`
	Equal            bool              `json:"equal"`             // at the end, so after a repair
	Barrier          *change.BarrierID `json:"barrier,omitempty"` // at which both sides were compared
	Files            uint64            `json:"files"`             // compared, counted as in [Tree]
	Bytes            uint64            `json:"bytes"`
	Primary          change.Digest     `json:"primary_digest,omitzero"`
	Standby          change.Digest     `json:"standby_digest,omitzero"`
	Differences      []Difference      `json:"differences"`       // the first of them, as found before a repair
	DifferencesTotal uint64            `json:"differences_total"` // all of them
	Repaired         uint64            `json:"repaired"`
	Took             Seconds           `json:"took_seconds"`
}

// Side is one of the two nodes.
type Side string

// The sides.
const (
	SidePrimary Side = "primary"
	SideStandby Side = "standby"
)

// DiffersReplica is what differs of a database: its replica isn't at the barrier.
const DiffersReplica = "replica"

// Difference is one path that is not as it should be.
type Difference struct {
	Path string `json:"path"`           // "tree/path"; names that are not UTF-8 are quoted as Go has it
	Side Side   `json:"side,omitempty"` // whose copy is not what its catalog says; absent if both are, but differ
	What string `json:"what"`           // content, metadata, missing, extra, kind; replica: of "database NAME", which isn't at the barrier
	Text string `json:"text,omitempty"` // what was found, what was wanted
}

// ApplyRequest pauses or resumes the applying of barriers.
type ApplyRequest struct {
	Group  string `json:"group,omitempty"`  // "" = every group
	Accept bool   `json:"accept,omitempty"` // resume: let what a guard halted go on
}

// ApplyReply says what the groups do now.
type ApplyReply struct {
	Paused bool `json:"paused"`
}
