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
	"repld/dblog/gatefile"
	"repld/durable"
)

// gateState is what the gate must know after a crash. It is kept in the file "gate":
//
//	  0  magic       8  "repldgat"
//	  8  version     4  1
//	 12  checksum    4  CRC-32C of all before; zero in files that were made without it
//	 16  zero      496
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
		copy(b, gatefile.Head(gateHead(path)))
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
	n, err := io.ReadFull(f, b)
	var number uint64
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		number, st, err = decodeGate(path, b[:n])
	}
	if err != nil {
		f.Close()
		return nil, st, fmt.Errorf("the gate's state: %w", err)
	}
	return &gateFile{f, number}, st, nil
}

// gateHead says what the file begins with.
func gateHead(path string) gatefile.Options {
	return gatefile.Options{Path: path, Magic: gateMagic, Version: gateVersion}
}

// decodeGate returns the newer of the states that are whole.
func decodeGate(path string, b []byte) (number uint64, st gateState, err error) {
	if len(b) < 3*stateSector {
		return 0, st, durable.Damage(path, "it has %d bytes, want %d", len(b), 3*stateSector)
	}
	if err := gatefile.CheckHead(b, gateHead(path)); err != nil {
		return 0, st, err
	}
	found := false
	for i := range 2 {
		n, s, ok := decodeState(b[(1+i)*stateSector:])
		if ok && n&1 == uint64(i) && (!found || n > number) {
			number, st, found = n, s, true
		}
	}
	if !found {
		return 0, st, durable.Damage(path, "neither of its states is whole")
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
