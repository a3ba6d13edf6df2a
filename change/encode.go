package change

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The encodings here are shared by log records, catalog values and digests.
// Integers are unsigned LEB128 varints ("uvarint", encoding/binary) unless said
// otherwise; a "string" is its length as uvarint and its bytes.
//
//	Meta      mode uvarint │ uid uvarint │ gid uvarint │ mtime sec varint (zigzag)
//	          │ mtime nsec uvarint │ rdev uvarint │ target string
//	          │ number of xattrs uvarint │ (name string │ value string) …
//	ChunkRef  length uvarint │ 0x01 digest[32], or 0x00 for a hole
//	databases number uvarint │ (name string │ engine string │ position │ retain) …
//	          nothing if there are none
//	position  chapter uvarint │ offset uvarint

// Limits of decoded metadata, so that damaged or hostile input can't claim more.
const (
	maxTarget = 4096      // PATH_MAX
	maxXattrs = 64 << 10  // names and values are bounded by the record that holds them
	maxString = 256 << 10 // XATTR_SIZE_MAX is 64 KiB
)

// ErrMalformed is wrapped by every decoding error.
var ErrMalformed = errors.New("malformed encoding")

// AppendMeta appends the encoding of m to b.
func AppendMeta(b []byte, m *Meta) []byte {
	b = binary.AppendUvarint(b, uint64(m.Mode))
	b = binary.AppendUvarint(b, uint64(m.UID))
	b = binary.AppendUvarint(b, uint64(m.GID))
	b = binary.AppendVarint(b, m.Mtime.Sec)
	b = binary.AppendUvarint(b, uint64(m.Mtime.Nsec))
	b = binary.AppendUvarint(b, m.Rdev)
	b = AppendString(b, m.Target)
	b = binary.AppendUvarint(b, uint64(len(m.Xattrs)))
	for _, x := range m.Xattrs {
		b = AppendString(b, x.Name)
		b = AppendString(b, string(x.Value))
	}
	return b
}

// AppendString appends s with its length before it.
func AppendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// AppendRef appends the encoding of r to b.
func AppendRef(b []byte, r ChunkRef) []byte {
	b = binary.AppendUvarint(b, r.Length)
	if r.Hole() {
		return append(b, 0)
	}
	b = append(b, 1)
	return append(b, r.Digest[:]...)
}

// Decoder reads the encodings of this package from a byte slice. The first error
// sticks: after it every method returns zero values, so that a caller checks Err
// once at the end.
type Decoder struct {
	rest []byte
	err  error
}

// NewDecoder returns a decoder of b, which it doesn't copy.
func NewDecoder(b []byte) *Decoder { return &Decoder{rest: b} }

// Err returns the first error, which wraps [ErrMalformed].
func (d *Decoder) Err() error { return d.err }

// Len returns how many bytes are left.
func (d *Decoder) Len() int { return len(d.rest) }

// Finish returns the first error, or one if bytes are left over.
func (d *Decoder) Finish() error {
	if d.err == nil && len(d.rest) > 0 {
		d.Fail("%d bytes left over", len(d.rest))
	}
	return d.err
}

// Fail makes the error of the decoder, unless it has one.
func (d *Decoder) Fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
		d.rest = nil
	}
}

// Uvarint reads an unsigned number that is at most limit.
func (d *Decoder) Uvarint(what string, limit uint64) uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || n > 1 && d.rest[n-1] == 0 { // cut off, too long, or not the shortest form
		d.Fail("%s: bad number", what)
		return 0
	}
	if v > limit {
		d.Fail("%s: %d is over the limit of %d", what, v, limit)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// Varint reads a signed number.
func (d *Decoder) Varint(what string) int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 || n > 1 && d.rest[n-1] == 0 {
		d.Fail("%s: bad number", what)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// Bytes reads n bytes, without copying them.
func (d *Decoder) Bytes(what string, n int) []byte {
	if n < 0 || n > len(d.rest) {
		d.Fail("%s: %d bytes wanted, %d left", what, n, len(d.rest))
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

// String reads a string of at most limit bytes.
func (d *Decoder) String(what string, limit int) string {
	n := d.Uvarint(what, uint64(limit))
	return string(d.Bytes(what, int(n)))
}

// Name reads a string that [CheckName] accepts.
func (d *Decoder) Name(what string) string {
	name := d.String(what, NameMax)
	if d.err == nil {
		if err := CheckName(name); err != nil {
			d.Fail("%s: %v", what, err)
			return ""
		}
	}
	return name
}

// Digest reads a digest.
func (d *Decoder) Digest(what string) Digest {
	var digest Digest
	copy(digest[:], d.Bytes(what, DigestSize))
	return digest
}

// Meta reads what [AppendMeta] wrote.
func (d *Decoder) Meta() Meta {
	m := Meta{
		Mode: uint32(d.Uvarint("mode", 0o7777)),
		UID:  uint32(d.Uvarint("uid", 1<<32-1)),
		GID:  uint32(d.Uvarint("gid", 1<<32-1)),
	}
	m.Mtime = d.time("mtime")
	m.Rdev = d.Uvarint("rdev", 1<<64-1)
	m.Target = d.String("target", maxTarget)
	n := d.Uvarint("number of xattrs", maxXattrs)
	for i := uint64(0); i < n && d.err == nil; i++ {
		x := Xattr{Name: d.String("xattr name", NameMax)}
		x.Value = []byte(d.String("xattr value", maxString))
		if i > 0 && m.Xattrs[i-1].Name >= x.Name {
			d.Fail("xattrs are not sorted")
		}
		m.Xattrs = append(m.Xattrs, x)
	}
	if d.err != nil {
		return Meta{}
	}
	return m
}

func (d *Decoder) time(what string) Time {
	return Time{Sec: d.Varint(what), Nsec: uint32(d.Uvarint(what, 999_999_999))}
}

// Ref reads what [AppendRef] wrote.
func (d *Decoder) Ref() ChunkRef {
	r := ChunkRef{Length: d.Uvarint("reference length", 1<<63-1)}
	switch flag := d.Bytes("reference kind", 1); {
	case d.err != nil:
	case flag[0] == 1:
		r.Digest = d.Digest("reference digest")
		if d.err == nil && (r.Digest.IsZero() || r.Length == 0 || r.Length > ChunkMax) {
			d.Fail("reference to a chunk of %d bytes", r.Length)
		}
	case flag[0] != 0 || r.Length == 0:
		d.Fail("reference kind %d, length %d", flag[0], r.Length)
	}
	if d.err != nil {
		return ChunkRef{}
	}
	return r
}
