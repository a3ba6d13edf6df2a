package ship

import (
	"context"
	"errors"

	"repld/change"
	"repld/wire"
)

// VerifyFunc re-reads a node's trees and reports what differs from its catalog.
// It calls report any number of times with what was found since the last call,
// and sets neither Call nor Done.
type VerifyFunc func(ctx context.Context, req wire.VerifyRequest, report func(wire.VerifyReport) error) error

func answerVerify(ctx context.Context, conn *wire.Conn, verify VerifyFunc, req *wire.VerifyRequest) error {
	last := wire.VerifyReport{Call: req.Call, Done: true}
	err := errors.ErrUnsupported
	if verify != nil {
		err = verify(ctx, *req, func(r wire.VerifyReport) error {
			r.Call = req.Call
			last = r
			last.Differences, last.Done = nil, true
			return conn.Send(ctx, &r)
		})
	}
	last.Error = refusal(err)
	return conn.Send(ctx, &last)
}

// Verify has the standby re-read its trees; each gets its reports, the last with
// Done set.
func (s *Sender) Verify(ctx context.Context, req wire.VerifyRequest, each func(wire.VerifyReport) error) error {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn == nil {
		return ErrNoSession
	}
	return verifyPeer(ctx, conn, &s.calls, req, each)
}

// Verify has the primary re-read its trees; each gets its reports, the last with
// Done set.
func (r *Receiver) Verify(ctx context.Context, req wire.VerifyRequest, each func(wire.VerifyReport) error) error {
	conn := r.opts.Fetcher.current()
	if conn == nil {
		return ErrNoSession
	}
	return verifyPeer(ctx, conn, &r.calls, req, each)
}

func verifyPeer(ctx context.Context, conn *wire.Conn, calls *calls, req wire.VerifyRequest, each func(wire.VerifyReport) error) error {
	c := calls.open()
	defer calls.close(c)
	req.Call = c.number
	if err := conn.Send(ctx, &req); err != nil {
		return errors.Join(ErrNoSession, err)
	}
	for {
		msg, err := c.await(ctx)
		if err != nil {
			return err
		}
		report, ok := msg.(*wire.VerifyReport)
		if !ok {
			return errors.New("the peer answered a verification with " + msg.Type().String())
		}
		if err := each(*report); err != nil {
			return err
		}
		if report.Error != nil {
			return report.Error.Err()
		}
		if report.Done {
			return nil
		}
	}
}

// RequestBarrier asks the primary for a barrier that holds everything done before
// the call.
func (r *Receiver) RequestBarrier(ctx context.Context) (change.BarrierID, error) {
	conn := r.opts.Fetcher.current()
	if conn == nil {
		return change.BarrierID{}, ErrNoSession
	}
	c := r.calls.open()
	defer r.calls.close(c)
	if err := conn.Send(ctx, &wire.BarrierRequest{Call: c.number, Group: r.opts.Group}); err != nil {
		return change.BarrierID{}, errors.Join(ErrNoSession, err)
	}
	msg, err := c.await(ctx)
	if err != nil {
		return change.BarrierID{}, err
	}
	reply, ok := msg.(*wire.BarrierReply)
	switch {
	case !ok:
		return change.BarrierID{}, errors.New("the primary answered a barrier with " + msg.Type().String())
	case reply.Error != nil:
		return change.BarrierID{}, reply.Error.Err()
	}
	return reply.Barrier, nil
}
