package redis

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"repld/change"
	"repld/dblog/gatefile"
)

// gateState is what the gate must know after a crash. It is kept in the file "gate".
type gateState struct {
	// Chapter is that of the stream, ID its replication id. There is a base unless it is
	// zero.
	Chapter uint32 `json:"chapter"`
	ID      string `json:"id"`
	// Before is the replication id of the stream before Fork, if it was another one.
	Before string `json:"before,omitempty"`
	Fork   uint64 `json:"fork,omitempty"`
	Of     uint32 `json:"of"`    // chapter of the base
	Base   uint64 `json:"base"`  // byte of the stream that comes behind the base
	Floor  uint64 `json:"floor"` // the same of the first base: the stream begins there
	Gate   uint64 `json:"gate"`  // nothing beyond it was ever released
	Open   bool   `json:"open"`  // there is a gate
	// Point says that the server must be made a replica, whatever it is; Full that it must
	// get the base; Discard that its keys need not be kept.
	Point   bool `json:"point,omitempty"`
	Full    bool `json:"full,omitempty"`
	Discard bool `json:"discard,omitempty"`
	// Adopt says that the server was a primary.
	Adopt bool `json:"adopt,omitempty"`
	// Former is a replication id that the primary had followed up to a byte, before it was
	// promoted.
	Former     string `json:"former,omitempty"`
	FormerNext uint64 `json:"former_next,omitempty"`
	// Promoted says that the replica became a primary at Gate.
	Promoted bool `json:"promoted,omitempty"`
	// Run is the server's run_id when it was made a replica.
	Run string `json:"run,omitempty"`
	// Timeout is the server's own repl-timeout.
	Timeout string `json:"timeout,omitempty"`
}

func (st gateState) seeded() bool { return st.Chapter != 0 }

func (st gateState) position() change.StreamPosition {
	if !st.Open {
		return change.StreamPosition{}
	}
	return change.StreamPosition{Chapter: st.Chapter, Offset: st.Gate}
}

// kept is from where on the stream is kept: the base's.
func (st gateState) kept() change.StreamPosition {
	return change.StreamPosition{Chapter: st.Of, Offset: st.Base}
}

// least is the least position that the gate may be at.
func (st gateState) least() uint64 {
	if st.Open {
		return st.Gate
	}
	return st.Floor
}

const (
	gateMagic   = "repldrgt"
	gateVersion = 1
)

func openGateFile(dir string) (*gatefile.File, gateState, error) {
	var st gateState
	path := filepath.Join(dir, "gate")
	f, text, err := gatefile.Open(gatefile.Options{Path: path, Magic: gateMagic, Version: gateVersion, Empty: []byte("{}")})
	if err != nil {
		return nil, st, err
	}
	if err := json.Unmarshal(text, &st); err != nil {
		f.Close()
		return nil, st, fmt.Errorf("%s: %w", path, err)
	}
	return f, st, nil
}

// update changes the state, durably.
func (g *Gate) update(change func(*gateState)) error {
	g.releasing.Lock()
	defer g.releasing.Unlock()
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	change(&st)
	return g.save(st)
}

// save makes st the state; with g.releasing held.
func (g *Gate) save(st gateState) error {
	g.mu.Lock()
	same, failed := st == g.state, g.failed
	g.mu.Unlock()
	if same || failed != nil {
		return failed
	}
	text, err := json.Marshal(st)
	if err == nil {
		err = g.file.Save(text)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.failed = fmt.Errorf("the gate's state can't be written, it stays where it is: %w", err)
		g.announce()
		return g.failed
	}
	g.state = st
	g.announce()
	return nil
}
