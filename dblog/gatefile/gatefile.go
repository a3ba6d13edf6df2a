// Package gatefile keeps what a gate must know after a crash: a text that is replaced by
// one write and one fdatasync. It stands beside the way of the data, under the engines of
// package dblog, which say what the text is.
//
// # Invariants
//
//   - What [File.Save] returned nil for is what the next [Open] returns, or a later text.
//   - A torn write leaves the text before it.
//   - A file that is neither what was written nor of another version is a
//     [durable.DamageError]. While one of its states is whole, that one counts.
//
// # Format
//
// Integers are little-endian.
//
//	    0  magic        8  the engine's
//	    8  version      4  the engine's
//	   12  checksum     4  CRC-32C of all before; zero in files that were made without it,
//	                       all of which were of version 1
//	   16  zero      4080
//	 4096  state    16384
//	20480  state    16384  the one whose number is greater counts
//
// and a state is
//
//	 0  number    8  ascending; its lowest bit says where it stands
//	 8  length    4  of the text, at most 16368
//	12  text
//	    checksum  4  CRC-32C of all before
//
// # Concurrency
//
// A File is not safe for concurrent use.
//
// # What it does not promise
//
// After an error of Save, which of both texts counts is unknown until the file is opened
// anew.
package gatefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"repld/durable"
)

// MagicSize is the length of [Options.Magic], MaxText the greatest of a text, in bytes.
const (
	MagicSize = 8
	MaxText   = stateSize - 16
)

const (
	headSize  = 4096
	stateSize = 16384
	fileSize  = headSize + 2*stateSize
)

// Options say whose file it is. All must be given.
type Options struct {
	Path    string
	Magic   string // MagicSize bytes
	Version uint32 // of the text; a file of another one is refused
	Empty   []byte // the text of a file that isn't there yet
}

// File is a file that holds a text.
type File struct {
	f      *os.File
	number uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Open opens a file, or makes it, and returns its text.
func Open(o Options) (*File, []byte, error) {
	if _, err := os.Stat(o.Path); errors.Is(err, os.ErrNotExist) {
		b := make([]byte, headSize, fileSize)
		copy(b, Head(o))
		for i := range uint64(2) {
			state, err := encode(i, o.Empty)
			if err != nil {
				return nil, nil, err
			}
			b = append(b, state...)
			b = append(b, make([]byte, stateSize-len(state))...)
		}
		if err := durable.WriteFile(o.Path, b, 0o600); err != nil {
			return nil, nil, err
		}
	}
	f, err := os.OpenFile(o.Path, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	b := make([]byte, fileSize)
	n, err := io.ReadFull(f, b)
	var number uint64
	var text []byte
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		number, text, err = decode(b[:n], o)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("the gate's state: %w", err)
	}
	return &File{f, number}, text, nil
}

// decode returns the newer of the texts that are whole.
func decode(b []byte, o Options) (number uint64, text []byte, err error) {
	if len(b) < fileSize {
		return 0, nil, durable.Damage(o.Path, "it has %d bytes, want %d", len(b), fileSize)
	}
	if err := CheckHead(b, o); err != nil {
		return 0, nil, err
	}
	found := false
	for i := range uint64(2) {
		n, s, ok := decodeState(b[headSize+i*stateSize:][:stateSize])
		if ok && n&1 == i && (!found || n > number) {
			number, text, found = n, s, true
		}
	}
	if !found {
		return 0, nil, durable.Damage(o.Path, "neither of its states is whole")
	}
	return number, text, nil
}

// HeadSize is the length of what [CheckHead] looks at, in bytes.
const HeadSize = MagicSize + 8

// Head returns the first [HeadSize] bytes of a file of the options.
func Head(o Options) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(o.Magic[:MagicSize]), o.Version)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// CheckHead refuses a file that doesn't begin as one of the options does. Another version
// is one that its checksum proves: without that it is damage.
func CheckHead(b []byte, o Options) error {
	v := binary.LittleEndian.Uint32(b[MagicSize:])
	found := o
	found.Version = v
	switch {
	case string(b[:MagicSize]) == o.Magic && v == o.Version:
		return nil
	case string(b[:HeadSize]) == string(Head(found)):
		return fmt.Errorf("%s: version %d of the gate's state, want %d", o.Path, v, o.Version)
	}
	return durable.Damage(o.Path, "it begins with %q and version %d, want %q and %d", b[:MagicSize], v, o.Magic, o.Version)
}

func encode(number uint64, text []byte) ([]byte, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("the gate's state takes %d bytes, want %d at most", len(text), MaxText)
	}
	b := binary.LittleEndian.AppendUint64(nil, number)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

func decodeState(b []byte) (number uint64, text []byte, ok bool) {
	n := binary.LittleEndian.Uint32(b[8:])
	if n > MaxText {
		return 0, nil, false
	}
	end := 12 + n
	ok = crc32.Checksum(b[:end], castagnoli) == binary.LittleEndian.Uint32(b[end:])
	return binary.LittleEndian.Uint64(b), b[12:end], ok
}

// Save makes text what the file holds, durably.
func (g *File) Save(text []byte) error {
	number := g.number + 1
	b, err := encode(number, text)
	if err != nil {
		return err
	}
	if _, err := g.f.WriteAt(b, headSize+stateSize*int64(number&1)); err != nil {
		return err
	}
	if err := g.f.Sync(); err != nil {
		return err
	}
	g.number = number
	return nil
}

// Close closes the file.
func (g *File) Close() error { return g.f.Close() }
