package dblogtest

import (
	"context"
	"errors"
	"time"

	"repld/change"
	"repld/dblog"
)

// askWithin bounds a reading, and its confirmation.
const askWithin = 20 * time.Second

// Cut reads a position and confirms it, anew after a restart of the server.
func (l *Link) Cut() (dblog.Point, error) {
	return anew(l.cutOnce)
}

// anew repeats a cut when the server was restarted in between, three times at most.
func anew[T any](cut func() (T, error)) (T, error) {
	v, err := cut()
	for range 3 {
		if errors.Is(err, dblog.ErrRestarted) {
			v, err = cut()
		}
	}
	return v, err
}

func (l *Link) cutOnce() (dblog.Point, error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), askWithin)
	defer cancel()
	r, err := (*l.source.Load()).Position(ctx)
	if err != nil {
		return dblog.Point{}, err
	}
	return l.Confirm(r)
}

// Confirm makes a reading the point of a new barrier.
func (l *Link) Confirm(r dblog.Reading) (dblog.Point, error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), askWithin)
	defer cancel()
	l.seq++
	return (*l.source.Load()).Confirm(ctx, r, change.BarrierID{Epoch: 1, Seq: l.seq})
}

// Barrier brings the replica to where the primary is.
func (l *Link) Barrier() dblog.Point {
	l.t.Helper()
	point, err := l.Cut()
	Must(l.t, err)
	l.Advance(point)
	return point
}

// Arrived waits until the standby's spool has a point on disk.
func (l *Link) Arrived(point dblog.Point) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), l.opts.Within)
	defer cancel()
	l.arrived(ctx, point)
}

func (l *Link) arrived(ctx context.Context, point dblog.Point) {
	l.t.Helper()
	if err := l.Spool.WaitDurable(ctx, point.Position); err != nil {
		broke := l.broke.Load()
		if broke == nil {
			broke = new(error)
		}
		l.t.Fatalf("the spool never got to %s, it is durable up to %s: %v; the link broke last with: %v",
			l.opts.Show(point.Position), l.opts.Show(l.Spool.Durable()), err, *broke)
	}
}

// Advance brings the replica to a point and returns how long that took from when the
// standby had it.
func (l *Link) Advance(point dblog.Point) time.Duration {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), l.opts.Within)
	defer cancel()
	l.arrived(ctx, point)
	replica := *l.replica.Load()
	begin := time.Now()
	if err := replica.Advance(ctx, point); err != nil {
		l.t.Fatalf("%v\nhealth: %v", err, replica.Health())
	}
	return time.Since(begin)
}
