package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"repld/change"
)

// Backup is a base backup that was taken.
type Backup struct {
	Start change.StreamPosition // from where on WAL is needed
	End   change.StreamPosition // up to where it is: no gate may stand before it
	Bytes int64                 // of the archive
}

// BaseBackup writes a base backup of the server, one tar archive, to w. The slot
// must be there (see [Source.Prepare]): the WAL comes through the gate. A server with
// tablespaces of its own is refused.
func (s *Source) BaseBackup(ctx context.Context, w io.Writer) (Backup, error) {
	b, err := s.baseBackup(ctx, w)
	return b, s.noted(err)
}

func (s *Source) baseBackup(ctx context.Context, w io.Writer) (Backup, error) {
	var b Backup
	conn, err := pgconn.ConnectConfig(ctx, s.stream)
	if err != nil {
		return b, err
	}
	defer closeConn(conn)
	stop := context.AfterFunc(ctx, func() { conn.Conn().Close() })
	defer stop()
	front := conn.Frontend()
	front.SendQuery(&pgproto3.Query{String: "BASE_BACKUP (LABEL 'repld', CHECKPOINT 'fast', WAL false, MANIFEST 'no', WAIT false)"})
	if err := front.Flush(); err != nil {
		return b, err
	}
	r := backupReader{front: front, w: w}
	err = r.read(&b)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	b.Bytes = r.bytes
	return b, err
}

// backupReader reads the answer to BASE_BACKUP: a result with the start, one with the
// tablespaces, a copy with the archives, a result with the end.
type backupReader struct {
	front    *pgproto3.Frontend
	w        io.Writer
	bytes    int64
	archives int
	results  int
}

func (r *backupReader) read(b *Backup) error {
	for {
		msg, err := r.front.Receive()
		if err != nil {
			return err
		}
		switch m := msg.(type) {
		case *pgproto3.ErrorResponse:
			return pgconn.ErrorResponseToPgError(m)
		case *pgproto3.RowDescription:
			r.results++
		case *pgproto3.DataRow:
			if err := r.row(b, m.Values); err != nil {
				return err
			}
		case *pgproto3.CopyData:
			if err := r.copy(m.Data); err != nil {
				return err
			}
		case *pgproto3.ReadyForQuery:
			if b.End.IsZero() || r.archives != 1 {
				return errors.New("the base backup ended early")
			}
			return nil
		}
	}
}

func (r *backupReader) row(b *Backup, values [][]byte) error {
	switch r.results {
	case 1, 3:
		if len(values) < 2 {
			return errors.New("the base backup has no position")
		}
		lsn, err := ParseLSN(string(values[0]))
		if err != nil {
			return err
		}
		timeline, err := strconv.ParseUint(string(values[1]), 10, 32)
		if err != nil {
			return err
		}
		at := change.StreamPosition{Chapter: uint32(timeline), Offset: uint64(lsn)}
		if r.results == 1 {
			b.Start = at
		} else {
			b.End = at
		}
	case 2:
		if len(values) >= 2 && values[0] != nil {
			return setupError{fmt.Sprintf("the server has a tablespace at %s, which is not supported: move its tables into the default tablespace", values[1])}
		}
	}
	return nil
}

// copy takes a message of the copy (protocol, "BASE_BACKUP").
func (r *backupReader) copy(p []byte) error {
	if len(p) == 0 {
		return errors.New("the base backup has an empty message")
	}
	switch p[0] {
	case 'n':
		name, _, _ := strings.Cut(string(p[1:]), "\x00")
		if r.archives++; name != "base.tar" || r.archives > 1 {
			return fmt.Errorf("the base backup has an archive %q, want base.tar alone", name)
		}
	case 'd':
		n, err := r.w.Write(p[1:])
		r.bytes += int64(n)
		return err
	case 'm', 'p':
	default:
		return fmt.Errorf("the base backup has a message of type %q", p[0])
	}
	return nil
}
