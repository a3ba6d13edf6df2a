package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"

	"repld/change"
	"repld/dblog"
	"repld/health"
)

var errClientDone = errors.New("the client ended the stream")

// listen takes what the replica says while it streams.
func (s *session) listen(timeline uint32) error {
	for {
		msg, err := s.back.Receive()
		if err != nil {
			return err
		}
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			if len(m.Data) >= 34 && m.Data[0] == 'r' {
				if err := s.status(timeline, m.Data); err != nil {
					return err
				}
			}
		case *pgproto3.CopyDone:
			return errClientDone
		case *pgproto3.Terminate:
			return errors.New("the replica said good-bye")
		}
	}
}

// status takes a standby status update. A replica that has what was never released is
// cut off.
func (s *session) status(timeline uint32, b []byte) error {
	written, flushed, applied := LSN(binary.BigEndian.Uint64(b[1:])), LSN(binary.BigEndian.Uint64(b[9:])), LSN(binary.BigEndian.Uint64(b[17:]))
	g := s.gate
	limit, _, _, err := g.limit(timeline)
	if err != nil {
		return err
	}
	if most := max(written, flushed, applied); most > limit {
		return g.noted(fmt.Errorf("%w: it has WAL up to %v, the gate lets it go to %v on timeline %d", dblog.ErrAhead, most, limit, timeline))
	}
	return s.noteStatus(timeline, limit, flushed, applied)
}

func (s *session) noteStatus(timeline uint32, limit, flushed, applied LSN) error {
	g := s.gate
	g.mu.Lock()
	if g.session != s {
		g.mu.Unlock()
		return errors.New("the replica has another connection")
	}
	size := g.about.SegmentSize
	frees := segmentStart(flushed, size) != segmentStart(LSN(s.flushed.Offset), size)
	s.flushed = change.StreamPosition{Chapter: timeline, Offset: uint64(flushed)}
	g.applied = change.StreamPosition{Chapter: timeline, Offset: uint64(applied)}
	if limit == LSN(g.state.gate.Offset) {
		g.trouble.Forget(health.DatabaseAhead)
		if g.spoilt = g.spoilt && flushed < limit; !g.spoilt {
			g.trouble.Forget(health.DatabaseNeedsSeed)
		}
	}
	st, about := g.state, g.about
	st.flushed = s.flushed
	g.announce()
	g.mu.Unlock()
	if frees {
		return g.free(st, about)
	}
	return nil
}
