package postgres

import (
	"encoding/binary"
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
//	  0  magic       8  "repldgat"
//	  8  version     4  1
//	 12  zero      500
//	512  state    512
//	1024 state    512  the one whose number is greater counts
//
// and a state is, little-endian:
//
//	 0  number      8  ascending; its lowest bit says where it stands
//	 8  gate       12  chapter 4, offset 8: nothing beyond it was ever released
//	20  floor      12  end of the backup that the replica was made from
//	32  retain     12  the stream is kept from here on
//	44  flushed    12  up to where the replica has it, when last heard of
//	56  zero        4
//	60  checksum    4  CRC-32C of bytes 0 to 60
//
// A state is one write within a sector and one fdatasync: a torn one leaves the other.
type gateState struct {
	gate, floor, retain, flushed change.StreamPosition
}

const (
	gateMagic   = "repldgat"
	gateVersion = 1
	stateSize   = 64
	stateSector = 512
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
		b := make([]byte, 3*stateSector)
		copy(b, gateMagic)
		binary.LittleEndian.PutUint32(b[8:], gateVersion)
		copy(b[stateSector:], encodeState(0, st))
		copy(b[2*stateSector:], encodeState(1, st))
		if err := durable.WriteFile(path, b, 0o600); err != nil {
			return nil, st, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, st, err
	}
	b := make([]byte, 3*stateSector)
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
	if len(b) < 3*stateSector || string(b[:8]) != gateMagic {
		return 0, st, fmt.Errorf("the file doesn't begin with %q", gateMagic)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != gateVersion {
		return 0, st, fmt.Errorf("version %d of the gate's state, want %d", v, gateVersion)
	}
	found := false
	for i := range 2 {
		n, s, ok := decodeState(b[(1+i)*stateSector:])
		if ok && n&1 == uint64(i) && (!found || n > number) {
			number, st, found = n, s, true
		}
	}
	if !found {
		return 0, st, errors.New("neither of the gate's states is whole")
	}
	return number, st, nil
}

func encodeState(number uint64, st gateState) []byte {
	b := binary.LittleEndian.AppendUint64(nil, number)
	for _, p := range []change.StreamPosition{st.gate, st.floor, st.retain, st.flushed} {
		b = binary.LittleEndian.AppendUint32(b, p.Chapter)
		b = binary.LittleEndian.AppendUint64(b, p.Offset)
	}
	b = append(b, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeState(b []byte) (number uint64, st gateState, ok bool) {
	if crc32.Checksum(b[:60], castagnoli) != binary.LittleEndian.Uint32(b[60:]) {
		return 0, st, false
	}
	for i, p := range []*change.StreamPosition{&st.gate, &st.floor, &st.retain, &st.flushed} {
		p.Chapter = binary.LittleEndian.Uint32(b[8+12*i:])
		p.Offset = binary.LittleEndian.Uint64(b[12+12*i:])
	}
	return binary.LittleEndian.Uint64(b), st, true
}

// save makes st the state, durably. After an error which of both counts is unknown.
func (g *gateFile) save(st gateState) error {
	number := g.number + 1
	if _, err := g.f.WriteAt(encodeState(number, st), stateSector*int64(1+number&1)); err != nil {
		return err
	}
	if err := g.f.Sync(); err != nil {
		return err
	}
	g.number = number
	return nil
}

func (g *gateFile) close() error { return g.f.Close() }
