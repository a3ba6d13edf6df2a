package tree

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"repld/change"
)

var listBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

func (v *view) readDir(path string) ([]Entry, error) {
	if err := v.check(path); err != nil {
		return nil, err
	}
	for {
		d, hit, err := v.dirs.get(path, true)
		if err != nil {
			return nil, err
		}
		entries, err := d.entries(hit)
		stale := err == unix.ENOENT && hit && v.dirs.gone(d)
		v.dirs.put(d)
		if stale {
			continue
		}
		if err != nil {
			return nil, err
		}
		if v.hideOwn && path == "" {
			entries = slices.DeleteFunc(entries, func(e Entry) bool { return IsOwn(e.Name) })
		}
		slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
		return entries, nil
	}
}

// await takes the lock of a directory, by listing it into a buffer that is too
// short for any name; EINVAL says so.
func (v *view) await(path string) error {
	if err := v.check(path); err != nil {
		return err
	}
	d, _, err := v.dirs.get(path, true)
	if err != nil {
		return err
	}
	defer v.dirs.put(d)
	fd := d.fd
	if !d.readable {
		if fd, err = openQuiet(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
			return err
		}
		defer closeFD(fd)
	}
	for {
		var short [1]byte
		if _, err = unix.Getdents(fd, short[:]); err != unix.EINTR {
			break
		}
	}
	if err == unix.EINVAL {
		return nil
	}
	return err
}

// entries lists d from its beginning; used says that somebody may have listed it.
func (d *dir) entries(used bool) ([]Entry, error) {
	fd := d.fd
	if d.readable {
		d.list.Lock()
		defer d.list.Unlock()
		if used {
			if _, err := unix.Seek(fd, 0, 0); err != nil {
				return nil, err
			}
		}
	} else {
		own, err := openQuiet(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		defer closeFD(own)
		fd = own
	}
	buffer := listBuffers.Get().(*[]byte)
	defer listBuffers.Put(buffer)
	var entries []Entry
	for {
		n, err := unix.Getdents(fd, *buffer)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case n == 0:
			return entries, nil
		}
		entries = appendEntries(entries, (*buffer)[:n])
	}
}

// appendEntries reads the records of getdents64(2): inode (8 bytes), offset (8),
// record length (2), type (1), name up to a zero byte.
func appendEntries(entries []Entry, buf []byte) []Entry {
	const head = 19
	for len(buf) > head {
		length := int(binary.NativeEndian.Uint16(buf[16:]))
		if length <= head || length > len(buf) {
			break
		}
		name := buf[head:length]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		if s := string(name); s != "." && s != ".." {
			entries = append(entries, Entry{Name: s, Kind: kindOfType(buf[18]), Ino: binary.NativeEndian.Uint64(buf)})
		}
		buf = buf[length:]
	}
	return entries
}

func kindOfType(t byte) change.Kind {
	switch t {
	case unix.DT_REG:
		return change.KindFile
	case unix.DT_DIR:
		return change.KindDir
	case unix.DT_LNK:
		return change.KindSymlink
	case unix.DT_FIFO:
		return change.KindFifo
	case unix.DT_CHR:
		return change.KindCharDevice
	case unix.DT_BLK:
		return change.KindBlockDevice
	}
	return 0
}
