package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What a fanotify descriptor delivers (fanotify(7)), all in host byte order:
//
//	event     ┌ 0 length u32 ┬ 4 version u8 ┬ 5 reserved u8 ┬ 6 header length u16
//	          ├ 8 mask u64 ┬ 16 fd i32 ┬ 20 pid i32
//	          └ 24 info records up to length
//	record    ┌ 0 type u8 ┬ 1 pad u8 ┬ 2 length u16
//	          ├ 4 fsid [8]byte ┬ 12 handle length u32 ┬ 16 handle type i32 ┬ 20 handle
//	          └ then, in the …_NAME types, a name that ends with a zero byte
//
// The bytes from fsid to the end of the handle name an object; they are used as
// a map key as they stand.
const (
	eventHeader  = 24
	recordHeader = 4
	fsidSize     = 8
	handleHeader = 8
)

// objectRef is fsid, handle length, handle type, handle: see above.
type objectRef []byte

func (r objectRef) fsid() [fsidSize]byte { return [fsidSize]byte(r[:fsidSize]) }

func (r objectRef) handle() unix.FileHandle {
	kind := int32(binary.NativeEndian.Uint32(r[fsidSize+4:]))
	return unix.NewFileHandle(kind, r[fsidSize+handleHeader:])
}

// ino decodes the inode number from the handles of the file systems that are
// known to carry it; 0 from others.
func (r objectRef) ino() uint64 {
	if len(r) < fsidSize+handleHeader {
		return 0
	}
	kind, h := binary.NativeEndian.Uint32(r[fsidSize+4:]), r[fsidSize+handleHeader:]
	switch {
	case kind == 0x01 && len(h) == 8: // ext4, xfs: ino u32, generation u32
		return uint64(binary.NativeEndian.Uint32(h))
	case kind == 0x01 && len(h) == 12: // tmpfs: generation u32, ino u32, ino high u32
		return uint64(binary.NativeEndian.Uint32(h[4:])) | uint64(binary.NativeEndian.Uint32(h[8:]))<<32
	case kind == 0x81 && len(h) >= 12, // xfs: ino u64, generation u32
		kind == 0x4d && len(h) >= 20: // btrfs: objectid u64, root u64, generation u32
		return binary.NativeEndian.Uint64(h)
	}
	return 0
}

// named is a name in a directory; the name "." is the directory itself.
type named struct {
	dir  objectRef // nil = absent
	name []byte
}

type event struct {
	mask     uint64
	pid      int32
	at       named     // where it happened
	from, to named     // of a rename
	target   objectRef // the object itself, nil = absent
}

var errEvent = errors.New("malformed fanotify event")

// nextEvent parses the event at the start of b into ev, whose slices lie in b,
// and returns what follows it.
func nextEvent(b []byte, ev *event) (rest []byte, err error) {
	if len(b) < eventHeader {
		return nil, fmt.Errorf("%w: %d bytes left, want at least %d", errEvent, len(b), eventHeader)
	}
	length, header := int(binary.NativeEndian.Uint32(b)), int(binary.NativeEndian.Uint16(b[6:]))
	if b[4] != unix.FANOTIFY_METADATA_VERSION {
		return nil, fmt.Errorf("%w: version %d, want %d", errEvent, b[4], unix.FANOTIFY_METADATA_VERSION)
	}
	if header < eventHeader || length < header || length > len(b) {
		return nil, fmt.Errorf("%w: length %d with a header of %d in %d bytes", errEvent, length, header, len(b))
	}
	*ev = event{mask: binary.NativeEndian.Uint64(b[8:]), pid: int32(binary.NativeEndian.Uint32(b[20:]))}
	for info := b[header:length]; len(info) > 0; {
		if len(info) < recordHeader {
			return nil, fmt.Errorf("%w: %d stray bytes", errEvent, len(info))
		}
		size := int(binary.NativeEndian.Uint16(info[2:]))
		if size < recordHeader || size > len(info) {
			return nil, fmt.Errorf("%w: record of %d bytes in %d", errEvent, size, len(info))
		}
		if err := ev.record(info[0], info[recordHeader:size]); err != nil {
			return nil, err
		}
		info = info[size:]
	}
	return b[length:], nil
}

func (ev *event) record(kind byte, body []byte) error {
	var into *named
	switch kind {
	case unix.FAN_EVENT_INFO_TYPE_FID:
	case unix.FAN_EVENT_INFO_TYPE_DFID_NAME, unix.FAN_EVENT_INFO_TYPE_DFID:
		into = &ev.at
	case unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME:
		into = &ev.from
	case unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
		into = &ev.to
	default:
		return nil // a later kernel's addition
	}
	if len(body) < fsidSize+handleHeader {
		return fmt.Errorf("%w: record type %d with %d bytes", errEvent, kind, len(body))
	}
	size := uint64(binary.NativeEndian.Uint32(body[fsidSize:]))
	if size > uint64(len(body)-fsidSize-handleHeader) {
		return fmt.Errorf("%w: handle of %d bytes in %d", errEvent, size, len(body))
	}
	end := fsidSize + handleHeader + int(size)
	ref := objectRef(body[:end:end])
	if into == nil {
		ev.target = ref
		return nil
	}
	into.dir, into.name = ref, []byte(".")
	if kind == unix.FAN_EVENT_INFO_TYPE_DFID {
		return nil
	}
	name, _, ok := bytes.Cut(body[end:], []byte{0})
	if !ok || len(name) == 0 || bytes.IndexByte(name, '/') >= 0 {
		return fmt.Errorf("%w: name %q", errEvent, name)
	}
	into.name = name
	return nil
}
