package binlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/dblog/spool"
)

// incoming is the stream as it comes.
type incoming struct {
	packets
	source *Source
	net    net.Conn
	filler *spool.Filler         // nil: what comes goes into the spool at once
	name   string                // of the file
	at     change.StreamPosition // of the next event
	keep   uint64                // events of the first file that end before it aren't wanted
	begun  bool                  // the spool has the file's chapter
	base   history               // what comes before all files, beside what they say
	about  info                  // of the file, as far as it is known
	first  []byte                // events of a file that come before its chapter can begin

	pending   []byte // to be put into the spool
	pendingAt change.StreamPosition
}

// run takes messages until the stream ends.
func (in *incoming) run(ctx context.Context) error {
	for {
		if in.r.Buffered() == 0 {
			if err := in.flush(ctx); err != nil {
				return err
			}
			if err := in.net.SetReadDeadline(time.Now().Add(silence)); err != nil {
				return err
			}
		}
		if err := in.begin(); err != nil {
			return err
		}
		var first [1]byte
		if _, err := io.ReadFull(in, first[:]); err != nil {
			return err
		}
		switch first[0] {
		case answerOK:
			head := make([]byte, eventHead)
			if _, err := io.ReadFull(in, head); err != nil {
				return err
			}
			h, err := parseHeader(head)
			if err == nil {
				err = in.event(ctx, h, head, in)
			}
			if err != nil {
				return err
			}
		case answerError:
			b, err := in.rest(64 << 10)
			if err != nil {
				return err
			}
			return parseError(append(first[:], b...))
		case answerEOF:
			return errors.New("the server ended the stream: it is shutting down")
		default:
			return fmt.Errorf("the server sent a message of type %#x", first[0])
		}
	}
}

// maxSpecial bounds the events that are read for what they say.
const maxSpecial = 1 << 20

// event takes an event of which the header was read, and the rest is in r.
func (in *incoming) event(ctx context.Context, h header, head []byte, r io.Reader) error {
	switch {
	case h.kind == eventFormat, h.artificial(), in.source.dialect.lists(h.kind) && !in.begun:
		if h.size > maxSpecial {
			return fmt.Errorf("an event of type %d has %d bytes, want %d at most", h.kind, h.size, maxSpecial)
		}
		rest, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if len(rest) != int(h.size)-eventHead {
			return fmt.Errorf("an event of %d bytes says that it has %d", len(rest)+eventHead, h.size)
		}
		return in.special(ctx, h, append(head, rest...))
	}
	return in.take(ctx, h, head, r)
}

// special takes events that begin a file, and those that stand in none.
func (in *incoming) special(ctx context.Context, h header, b []byte) error {
	switch {
	case h.kind == eventRotate:
		return in.rotated(ctx, b)
	case h.kind == eventFormat:
		f, err := parseFormat(b)
		if err == nil {
			err = in.source.dialect.wrote(f.version)
		}
		if err != nil {
			return err
		}
		if h.end != h.size+fileHead { // we begin within the file
			if in.begun && !f.same(in.about.format) {
				return fmt.Errorf("%w: binary log %s is not the one that the stream is from", dblog.ErrNeedsSeed, in.name)
			}
			return nil
		}
		in.about = info{Name: in.name, Format: b, format: f}
		return in.take(ctx, h, b, nil)
	case h.artificial():
		return nil
	case in.source.dialect.lists(h.kind):
		body, err := in.about.format.body(b)
		if err != nil {
			return err
		}
		list, err := in.source.dialect.parseList(body)
		if err != nil {
			return err
		}
		in.about.state = list.joined(in.base)
		in.about.List = in.about.state.String()
		in.begun = true
		if err := in.chapter(); err != nil {
			return err
		}
		first := in.first
		in.first = nil
		if err := in.add(ctx, change.StreamPosition{Chapter: in.at.Chapter, Offset: fileHead}, first); err != nil {
			return err
		}
		return in.take(ctx, h, b, nil)
	}
	return in.take(ctx, h, b, nil)
}

// chapter begins the file's chapter in the spool.
func (in *incoming) chapter() error {
	text, err := json.Marshal(in.about)
	if err != nil {
		return err
	}
	return in.source.opts.Spool.Begin(spool.Chapter{Number: in.at.Chapter, Start: fileHead, Info: text})
}

// rotated begins a file.
func (in *incoming) rotated(ctx context.Context, b []byte) error {
	body := b[eventHead:]
	if sealed(b) {
		body = b[eventHead : len(b)-4]
	}
	name, err := parseRotate(body)
	if err != nil || name == in.name {
		return err
	}
	number, err := fileNumber(name)
	if err != nil {
		return err
	}
	if number <= in.at.Chapter {
		return fmt.Errorf("%w: binary log %s follows %s", dblog.ErrNeedsSeed, name, in.name)
	}
	if in.keep > in.at.Offset {
		return fmt.Errorf("%w: the standby has binary log %s up to %d, the server up to %d", dblog.ErrNeedsSeed, in.name, in.keep, in.at.Offset)
	}
	if err := in.settle(ctx); err != nil {
		return err
	}
	in.next(name, number)
	return nil
}

// next goes to the beginning of a file.
func (in *incoming) next(name string, number uint32) {
	in.name, in.begun, in.keep, in.first = name, false, 0, nil
	in.at = change.StreamPosition{Chapter: number, Offset: fileHead}
}

// take takes an event of the file: whole, or its header and the rest from r.
func (in *incoming) take(ctx context.Context, h header, b []byte, r io.Reader) error {
	if begin := h.end - h.size; begin != uint32(in.at.Offset) {
		return fmt.Errorf("%w: an event of type %d begins at %d in %s, want %d", spool.ErrGap, h.kind, begin, in.name, in.at.Offset)
	}
	at := in.at
	in.at.Offset += uint64(h.size)
	switch {
	case !in.begun:
		if r != nil {
			rest, err := io.ReadAll(io.LimitReader(r, maxSpecial))
			if err != nil {
				return err
			}
			b = append(b, rest...)
		}
		in.first = append(in.first, b...)
		return nil
	case in.at.Offset < in.keep:
		if r != nil {
			_, err := io.Copy(io.Discard, r)
			return err
		}
		return nil
	}
	if err := in.add(ctx, at, b); err != nil {
		return err
	}
	if r == nil {
		return nil
	}
	at.Offset += uint64(len(b))
	piece := make([]byte, min(batch, int(h.size)))
	for {
		n, err := r.Read(piece)
		if n > 0 {
			if err := in.add(ctx, at, piece[:n]); err != nil {
				return err
			}
			at.Offset += uint64(n)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if at != in.at {
		return fmt.Errorf("the event before %s has %d bytes too few", show(in.at), in.at.Offset-at.Offset)
	}
	return nil
}

// add puts bytes into the spool, many at once.
func (in *incoming) add(ctx context.Context, at change.StreamPosition, b []byte) error {
	if len(b) == 0 || at.Offset+uint64(len(b)) < in.keep {
		return nil
	}
	if len(in.pending) == 0 {
		in.pendingAt = at
	}
	in.pending = append(in.pending, b...)
	if len(in.pending) >= batch {
		return in.flush(ctx)
	}
	return nil
}

func (in *incoming) flush(ctx context.Context) error {
	if len(in.pending) == 0 {
		return nil
	}
	sp := in.source.opts.Spool
	var err error
	if in.filler != nil {
		err = in.filler.Append(ctx, in.pendingAt, in.pending)
	} else {
		err = sp.Append(in.pendingAt, in.pending)
	}
	if err != nil {
		return err
	}
	end := in.pendingAt
	end.Offset += uint64(len(in.pending))
	in.pending = in.pending[:0]
	if end == in.at {
		in.source.mu.Lock()
		in.source.marks.add(end, in.about)
		in.source.mu.Unlock()
	}
	return sp.WaitRoom(ctx)
}

// settle returns when all that came is in the spool.
func (in *incoming) settle(ctx context.Context) error {
	if err := in.flush(ctx); err != nil || in.filler == nil {
		return err
	}
	return in.filler.Flush(ctx)
}
