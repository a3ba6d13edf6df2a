package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"repld/change"
)

const (
	incarnationsName  = "incarnations"
	incarnationsMagic = "repldinc"
	incarnationsHead  = 16
	incarnationSize   = 24
)

func (c *incarnations) encode() []byte {
	b := make([]byte, 0, incarnationsHead+incarnationSize*(len(c.live)+len(c.former))+4)
	b = append(b, incarnationsMagic...)
	b = binary.LittleEndian.AppendUint16(b, FormatVersion)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(c.live)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(c.former)))
	b = append(b, 0, 0)
	for _, list := range [][]Incarnation{c.live, c.former} {
		for _, in := range list {
			b = append(b, in.ID[:]...)
			b = binary.LittleEndian.AppendUint64(b, in.Start)
		}
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeIncarnations decodes the file. It is false for a damaged one.
func decodeIncarnations(b []byte) (c incarnations, ok bool) {
	if len(b) < incarnationsHead+4 || string(b[:8]) != incarnationsMagic ||
		binary.LittleEndian.Uint16(b[8:]) != FormatVersion {
		return c, false
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	live, former := int(binary.LittleEndian.Uint16(b[10:])), int(binary.LittleEndian.Uint16(b[12:]))
	if crc32.Checksum(body, castagnoli) != sum || len(body) != incarnationsHead+incarnationSize*(live+former) {
		return c, false
	}
	for at := incarnationsHead; at < len(body); at += incarnationSize {
		in := Incarnation{Start: binary.LittleEndian.Uint64(body[at+16:])}
		copy(in.ID[:], body[at:])
		if len(c.live) < live {
			c.live = append(c.live, in)
		} else {
			c.former = append(c.former, in)
		}
	}
	return c, true
}

// store replaces the file durably.
func (c *incarnations) store(disk Disk) error {
	f, err := disk.Create(incarnationsName + tempSuffix)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(c.encode(), 0); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = disk.Rename(incarnationsName+tempSuffix, incarnationsName)
	}
	if err == nil {
		err = disk.SyncDir()
	}
	return err
}

// load takes what the segments say, and from the file what they don't: older and
// former incarnations. Without the file, or with a damaged one, those are unknown,
// which at worst costs a base.
func (c *incarnations) load(disk Disk, segs []*segment) error {
	var live []Incarnation
	for _, s := range segs {
		if n := len(live); !zero(s.inc) && (n == 0 || live[n-1].ID != s.inc) {
			live = append(live, Incarnation{s.inc, s.incStart})
		}
	}
	stored, err := readIncarnations(disk)
	if err != nil {
		return err
	}
	known := make(map[change.IncarnationID]bool)
	for _, in := range live {
		known[in.ID] = true
	}
	var older []Incarnation
	*c = incarnations{}
	for _, in := range stored.former {
		if !known[in.ID] {
			c.former = append(c.former, in)
		}
	}
	for _, in := range stored.live {
		switch {
		case known[in.ID]:
		case len(live) > 0 && in.Start < live[0].Start:
			older = append(older, in)
		default:
			c.former = append(c.former, in)
		}
	}
	c.live = append(older, live...)
	c.bound()
	return nil
}

func readIncarnations(disk Disk) (c incarnations, err error) {
	f, err := disk.Open(incarnationsName)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size > incarnationsHead+incarnationSize*2*maxIncarnations+4 {
		return c, err
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return c, fmt.Errorf("read %s: %w", incarnationsName, err)
	}
	c, _ = decodeIncarnations(b)
	return c, nil
}
