package mariadb

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"repld/change"
	"repld/durable"
)

// gateState is what the gate must know after a crash. It is kept in the file "gate":
//
//	    0  magic        8  "repldmgt"
//	    8  version      4  1
//	   12  zero      4084
//	 4096  state    16384
//	20480  state    16384  the one whose number is greater counts
//
// and a state is, little-endian:
//
//	 0  number    8  ascending; its lowest bit says where it stands
//	 8  length    4  of the text, at most 16368
//	12  text         this struct, in JSON
//	    checksum  4  CRC-32C of all before
//
// A state is one write and one fdatasync: a torn one leaves the other.
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
	return storedPlace{Chapter: p.at.Chapter, Offset: p.at.Offset, GTID: p.state.String(), Known: p.state != nil}
}

func (p storedPlace) position() change.StreamPosition {
	return change.StreamPosition{Chapter: p.Chapter, Offset: p.Offset}
}

func (p storedPlace) place() (place, error) {
	st, err := parseState(p.GTID)
	return place{at: p.position(), state: st}, err
}

const (
	gateMagic   = "repldmgt"
	gateVersion = 1
	gateHead    = 4096
	stateSize   = 16384
)

type gateFile struct {
	f      *os.File
	number uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func openGateFile(dir string) (*gateFile, gateState, error) {
	var st gateState
	path := filepath.Join(dir, "gate")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		b := make([]byte, gateHead+2*stateSize)
		copy(b, gateMagic)
		binary.LittleEndian.PutUint32(b[8:], gateVersion)
		for i := range 2 {
			text, err := encodeState(uint64(i), st)
			if err != nil {
				return nil, st, err
			}
			copy(b[gateHead+i*stateSize:], text)
		}
		if err := durable.WriteFile(path, b, 0o600); err != nil {
			return nil, st, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, st, err
	}
	b := make([]byte, gateHead+2*stateSize)
	if _, err := io.ReadFull(f, b); err != nil {
		f.Close()
		return nil, st, fmt.Errorf("%s: %w", path, err)
	}
	number, st, err := decodeGate(b)
	if err != nil {
		f.Close()
		return nil, st, fmt.Errorf("%s: %w", path, err)
	}
	return &gateFile{f, number}, st, nil
}

// decodeGate returns the newer of the states that are whole.
func decodeGate(b []byte) (number uint64, st gateState, err error) {
	if len(b) < gateHead+2*stateSize || string(b[:8]) != gateMagic {
		return 0, st, fmt.Errorf("the file doesn't begin with %q", gateMagic)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != gateVersion {
		return 0, st, fmt.Errorf("version %d of the gate's state, want %d", v, gateVersion)
	}
	found := false
	for i := range 2 {
		n, s, ok := decodeState(b[gateHead+i*stateSize:][:stateSize])
		if ok && n&1 == uint64(i) && (!found || n > number) {
			number, st, found = n, s, true
		}
	}
	if !found {
		return 0, st, errors.New("neither of the gate's states is whole")
	}
	return number, st, nil
}

func encodeState(number uint64, st gateState) ([]byte, error) {
	text, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	if len(text) > stateSize-16 {
		return nil, fmt.Errorf("the state takes %d bytes, want %d at most: it has too many GTID domains", len(text), stateSize-16)
	}
	b := binary.LittleEndian.AppendUint64(nil, number)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

func decodeState(b []byte) (number uint64, st gateState, ok bool) {
	n := binary.LittleEndian.Uint32(b[8:])
	if n > stateSize-16 {
		return 0, st, false
	}
	end := 12 + n
	if crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) || json.Unmarshal(b[12:end], &st) != nil {
		return 0, st, false
	}
	return binary.LittleEndian.Uint64(b), st, true
}

// save makes st the state, durably. After an error which of both counts is unknown.
func (g *gateFile) save(st gateState) error {
	number := g.number + 1
	b, err := encodeState(number, st)
	if err != nil {
		return err
	}
	if _, err := g.f.WriteAt(b, gateHead+stateSize*int64(number&1)); err != nil {
		return err
	}
	if err := g.f.Sync(); err != nil {
		return err
	}
	g.number = number
	return nil
}

func (g *gateFile) close() error { return g.f.Close() }
