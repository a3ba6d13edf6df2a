package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"repld/dblog/spool"
)

// maxSend is how many bytes of WAL go into one message, as in the server
// (MAX_SEND_SIZE).
const maxSend = 128 << 10

// Keepalives go out this often; while the replica has more to replay, sooner and with
// a wish for an answer, since by itself it reports what it has replayed every 10 s.
const (
	keepaliveEvery = 5 * time.Second
	askFirst       = time.Millisecond
	askAtMost      = 50 * time.Millisecond
)

// limit returns up to where a timeline may be sent, and whether it ends there, with a
// channel that is closed when that changes.
func (g *Gate) limit(timeline uint32) (limit LSN, ended bool, changed <-chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	end, _, historic, known := g.line.end(timeline)
	switch {
	case g.line.timeline == 0 || !known:
		return 0, false, nil, fmt.Errorf("timeline %d is not in the history of %s, where the gate is", timeline, show(g.state.gate))
	case historic:
		return end, true, g.changed, nil
	}
	return LSN(g.state.gate.Offset), false, g.changed, nil
}

// unreadable notes a spool that is damaged where the replica needs it, and returns err.
func (g *Gate) unreadable(err error) error {
	if !errors.Is(err, spool.ErrDamaged) {
		return err
	}
	g.mu.Lock()
	g.spoilt = true
	g.mu.Unlock()
	return g.noted(err)
}

// walWriter sends one timeline.
type walWriter struct {
	s        *session
	timeline uint32
	sent     LSN
	reader   *spool.Reader
	buf      []byte
	asked    time.Duration // how long the last question waited
	ended    bool          // it told the client so
}

// run sends what may be sent until the timeline ends. Then it says so to the client,
// whose own CopyDone ends the stream.
func (w *walWriter) run(ctx context.Context) error {
	timer := time.NewTimer(keepaliveEvery)
	defer timer.Stop()
	for {
		limit, ended, changed, err := w.s.gate.limit(w.timeline)
		if err != nil {
			return err
		}
		if w.sent < limit {
			if err := w.send(limit); err != nil {
				return err
			}
			w.asked = 0
			continue
		}
		if ended {
			w.ended = true
			w.s.back.Send(&pgproto3.CopyDone{})
			return w.s.back.Flush()
		}
		timer.Reset(w.patience(limit))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-timer.C:
			if err := w.keepalive(limit); err != nil {
				return err
			}
		}
	}
}

// patience returns when the next keepalive is due.
func (w *walWriter) patience(limit LSN) time.Duration {
	g := w.s.gate
	g.mu.Lock()
	applied := LSN(g.applied.Offset)
	g.mu.Unlock()
	if applied >= limit {
		return keepaliveEvery
	}
	w.asked = min(max(2*w.asked, askFirst), askAtMost)
	return w.asked
}

// send sends the next piece, never more than the limit. A piece ends with a record or
// with a page: walreceivers rely on it (walsender.c, XLogSendPhysical), and what reads
// the rest of a record from a page that it has half of takes it for damaged.
func (w *walWriter) send(limit LSN) error {
	n := uint64(limit - w.sent)
	if n > maxSend {
		n = uint64((w.sent+maxSend)&^(pageSize-1) - w.sent)
	}
	if w.buf == nil {
		w.buf = make([]byte, 25+maxSend)
	}
	k, err := w.reader.ReadAt(w.buf[25:25+n], w.timeline, uint64(w.sent))
	if err != nil {
		return w.s.gate.unreadable(err)
	}
	if uint64(k) < n {
		if _, err = w.reader.ReadAt(w.buf[:1], w.timeline, uint64(w.sent)+uint64(k)); err == nil { // why there was no more
			err = spool.ErrBeyond
		}
		return w.s.gate.unreadable(fmt.Errorf("the spool has %d bytes from %v on, want %d: %w", k, w.sent, n, err))
	}
	w.buf[0] = 'w'
	binary.BigEndian.PutUint64(w.buf[1:], uint64(w.sent))
	binary.BigEndian.PutUint64(w.buf[9:], uint64(limit))
	binary.BigEndian.PutUint64(w.buf[17:], uint64(time.Since(epoch2000).Microseconds()))
	w.s.back.Send(&pgproto3.CopyData{Data: w.buf[:25+k]})
	if err := w.s.back.Flush(); err != nil {
		return err
	}
	w.sent += LSN(k)
	return nil
}

// keepalive asks for an answer; it tells of no WAL behind the limit.
func (w *walWriter) keepalive(limit LSN) error {
	b := []byte{'k'}
	b = binary.BigEndian.AppendUint64(b, uint64(limit))
	b = binary.BigEndian.AppendUint64(b, uint64(time.Since(epoch2000).Microseconds()))
	w.s.back.Send(&pgproto3.CopyData{Data: append(b, 1)})
	return w.s.back.Flush()
}
