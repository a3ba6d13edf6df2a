package binlog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"repld/dblog"
)

// clean is part of [logWords]: the last file isn't marked as being written, and ends with
// the event that says that the server stopped.
func (mysqlDialect) clean(l logFiles) (bool, error) {
	list, err := l.list()
	if err != nil {
		return false, err
	}
	f, err := os.Open(list[len(list)-1])
	if err != nil {
		return false, err
	}
	defer f.Close()
	b := make([]byte, eventHead)
	if _, err := f.ReadAt(b, fileHead); err != nil {
		return false, ignoreEOF(err)
	}
	first, err := parseHeader(b)
	if err != nil || first.kind != eventFormat || first.flags&flagInUse != 0 {
		return false, nil
	}
	st, err := f.Stat()
	if err != nil {
		return false, err
	}
	for _, size := range []int64{eventHead + 4, eventHead} { // with a checksum, or none
		if _, err := f.ReadAt(b, max(fileHead, st.Size()-size)); err != nil {
			return false, ignoreEOF(err)
		}
		h, err := parseHeader(b)
		if err == nil && h.kind == eventStop && int64(h.size) == size && int64(h.end) == st.Size() {
			return true, nil
		}
	}
	return false, nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// last is part of [logWords]: what comes before the last file, and what is in it.
func (d mysqlDialect) last(l logFiles, base history) (history, error) {
	list, err := l.list()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(list[len(list)-1])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(fileHead, io.SeekStart); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(f, 64<<10)
	have, about := base, format{}
	for {
		head := make([]byte, eventHead)
		if _, err := io.ReadFull(r, head); errors.Is(err, io.EOF) {
			return have, nil
		} else if err != nil {
			return nil, err
		}
		h, err := parseHeader(head)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		if h.kind != eventFormat && h.kind != eventAnonymous && !d.lists(h.kind) && !d.groups(h.kind) {
			if _, err := r.Discard(int(h.size) - eventHead); err != nil {
				return nil, err
			}
			continue
		}
		if h.size > maxSpecial {
			return nil, fmt.Errorf("%s: an event of type %d has %d bytes, want %d at most", f.Name(), h.kind, h.size, maxSpecial)
		}
		event := append(head, make([]byte, h.size-eventHead)...)
		if _, err := io.ReadFull(r, event[eventHead:]); err != nil {
			return nil, err
		}
		if h.kind == eventFormat {
			if about, err = parseFormat(event); err != nil {
				return nil, err
			}
			continue
		}
		if have, err = d.counted(have, h.kind, about, event); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
}

// counted adds what an event says to a set of transactions.
func (d mysqlDialect) counted(have history, kind byte, about format, event []byte) (history, error) {
	body, err := about.body(event)
	if err != nil {
		return nil, err
	}
	var id mysqlID
	switch kind {
	case eventPreviousGTIDs:
		list, err := d.parseList(body)
		if err != nil {
			return nil, err
		}
		return have.joined(list), nil
	case eventMySQLGTID:
		id, _, err = parseMySQLGTID(body)
	case eventTaggedGTID:
		id, _, err = parseTaggedGTID(body)
	default:
		err = fmt.Errorf("%w: it has transactions without a GTID", dblog.ErrNeedsSeed)
	}
	if err != nil {
		return nil, err
	}
	return have.with(id), nil
}
