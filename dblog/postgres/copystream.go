package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"repld/change"
	"repld/dblog/spool"
)

// streaming is a stream in progress.
type streaming struct {
	source   *Source
	net      net.Conn
	timeline uint32
	filler   *spool.Filler
	ask      chan struct{} // the server wants to hear from us
}

// interrupt makes whoever reads or writes return.
func (c *streaming) interrupt() {
	if err := c.net.SetDeadline(time.Unix(1, 0)); err != nil {
		c.net.Close()
	}
}

var (
	errCopyDone = errors.New("the server ended the timeline")
	errStopped  = errors.New("the server was shut down")
)

// receive puts what comes into the spool, also the last of it before an error.
func (c *streaming) receive(ctx context.Context, front *pgproto3.Frontend) error {
	ended := c.messages(ctx, front)
	if err := c.filler.Flush(ctx); err != nil {
		return err
	}
	if errors.Is(ended, errStopped) {
		c.source.shutDown(c.source.opts.Spool.End())
	}
	return ended
}

// messages takes what the server says until it ends. A full spool makes it wait, and the
// server with it; what isn't sent stays in the slot.
func (c *streaming) messages(ctx context.Context, front *pgproto3.Frontend) error {
	for {
		msg, err := front.Receive()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			if err := c.data(ctx, m.Data); err != nil {
				return err
			}
			if err := c.source.opts.Spool.WaitRoom(ctx); err != nil {
				return err
			}
		case *pgproto3.CopyDone:
			return errCopyDone
		case *pgproto3.CommandComplete: // the last that it says; the standby has all (walsender.c, WalSndDone)
			return errStopped
		case *pgproto3.ErrorResponse:
			return pgconn.ErrorResponseToPgError(m)
		}
	}
}

func (c *streaming) data(ctx context.Context, b []byte) error {
	switch {
	case len(b) >= 25 && b[0] == 'w':
		at := change.StreamPosition{Chapter: c.timeline, Offset: binary.BigEndian.Uint64(b[1:])}
		return c.filler.Append(ctx, at, b[25:])
	case len(b) >= 18 && b[0] == 'k':
		if b[17] == 1 {
			select {
			case c.ask <- struct{}{}:
			default:
			}
		}
		return nil
	}
	return fmt.Errorf("the server sent a message of %d bytes that is no part of a stream", len(b))
}

// report tells the server what the standby has.
func (c *streaming) report(ctx context.Context) error {
	ticker := time.NewTicker(statusEvery)
	defer ticker.Stop()
	s := c.source
	for {
		s.mu.Lock()
		durable, replayed, news := s.durable, s.replayed, s.news
		s.mu.Unlock()
		if err := c.status(LSN(durable.Offset), LSN(replayed.Offset)); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
		case <-ticker.C:
		case <-c.ask:
		}
	}
}

// status writes a standby status update.
func (c *streaming) status(durable, replayed LSN) error {
	b := []byte{'r'}
	b = binary.BigEndian.AppendUint64(b, uint64(durable))
	b = binary.BigEndian.AppendUint64(b, uint64(durable))
	b = binary.BigEndian.AppendUint64(b, uint64(replayed))
	b = binary.BigEndian.AppendUint64(b, uint64(time.Since(epoch2000).Microseconds()))
	b = append(b, 0)
	msg, err := (&pgproto3.CopyData{Data: b}).Encode(nil)
	if err != nil {
		return err
	}
	_, err = c.net.Write(msg)
	return err
}
