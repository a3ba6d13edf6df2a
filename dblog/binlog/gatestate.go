package binlog

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"repld/change"
	"repld/dblog/gatefile"
)

// gateState is what the gate must know after a crash. It is kept in the file "gate", as
// JSON (package gatefile).
type gateState struct {
	Gate     storedPlace `json:"gate"`     // nothing beyond it was ever released
	Floor    storedPlace `json:"floor"`    // end of the backup that the replica was made from
	Replayed storedPlace `json:"replayed"` // the replica was here; the stream is kept from here on
	// Point says that the replica must be pointed to the gate; Reset that it is new, and
	// begins at Floor.
	Point bool `json:"point,omitempty"`
	Reset bool `json:"reset,omitempty"`
	// Adopt says that it was a primary until Floor.
	Adopt bool `json:"adopt,omitempty"`
	// Promoted is where the replica became a primary; zero while it is none.
	Promoted storedPlace `json:"promoted"`
}

// storedPlace is a place in JSON.
type storedPlace struct {
	Chapter uint32 `json:"chapter"`
	Offset  uint64 `json:"offset"`
	GTID    string `json:"gtid"`
	Known   bool   `json:"known,omitempty"` // GTID is
}

func (p place) stored() storedPlace {
	return storedPlace{Chapter: p.at.Chapter, Offset: p.at.Offset, GTID: p.list(), Known: p.state != nil}
}

func (p storedPlace) position() change.StreamPosition {
	return change.StreamPosition{Chapter: p.Chapter, Offset: p.Offset}
}

// list returns the transactions before a place, "" while they aren't known.
func (p place) list() string {
	if p.state == nil {
		return ""
	}
	return p.state.String()
}

func (p storedPlace) place(d dialect) (place, error) {
	st, err := d.parse(p.GTID)
	return place{at: p.position(), state: st}, err
}

const (
	gateMagic   = "repldmgt"
	gateVersion = 1
)

type gateFile struct{ *gatefile.File }

func openGateFile(dir string) (*gateFile, gateState, error) {
	var st gateState
	empty, err := json.Marshal(st)
	if err != nil {
		return nil, st, err
	}
	path := filepath.Join(dir, "gate")
	f, text, err := gatefile.Open(gatefile.Options{Path: path, Magic: gateMagic, Version: gateVersion, Empty: empty})
	if err != nil {
		return nil, st, err
	}
	if err := json.Unmarshal(text, &st); err != nil {
		f.Close()
		return nil, st, fmt.Errorf("%s: %w", path, err)
	}
	return &gateFile{f}, st, nil
}

// save makes st the state, durably. After an error which of both counts is unknown.
func (g *gateFile) save(st gateState) error {
	text, err := json.Marshal(st)
	if err != nil {
		return err
	}
	if len(text) > gatefile.MaxText {
		return fmt.Errorf("the state takes %d bytes, want %d at most: it has too many GTID domains", len(text), gatefile.MaxText)
	}
	return g.Save(text)
}

func (g *gateFile) close() error { return g.Close() }
