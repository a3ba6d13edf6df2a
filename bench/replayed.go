package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"repld/control"
)

// replayed measures from when a transaction is committed on the primary until the
// standby's replica shows it: under barriers at an interval, and asking for a barrier
// after each. Each operation writes a file and then a row.
func replayed(ctx context.Context, o options, at places, r *results, notes io.Writer) error {
	for i, way := range []struct {
		name, every string
		ask         bool
	}{{"a barrier every second", "1s", false}, {"a barrier every 200 ms", "200ms", false}, {"a barrier on request", "1s", true}} {
		suffix := "-" + strconv.Itoa(i)
		own := places{at.src + suffix, at.dst + suffix, at.srcState + suffix, at.dstState + suffix}
		for _, d := range []string{own.src, own.dst, own.srcState, own.dstState} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		took, err := replayedBy(ctx, o, own, way.every, way.ask)
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		for _, d := range took {
			r.add("replayed", way.name, "repld", sample{Seconds: d.Seconds()})
		}
		slices.Sort(took)
		fmt.Fprintf(notes, "  %-24s %d operations, from commit to replayed: median %v, most %v\n", way.name, len(took), took[len(took)/2], took[len(took)-1])
	}
	return nil
}

func replayedBy(ctx context.Context, o options, at places, every string, ask bool) (took []time.Duration, err error) {
	w := &walBench{options: o, at: at, standby: at.dstState + "-replica", settings: fmt.Sprintf("    barrier: {every: %s}\n", every)}
	defer func() { err = errors.Join(err, w.stop()) }()
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	if _, err := w.sql(ctx, "CREATE TABLE t (id bigint PRIMARY KEY)"); err != nil {
		return nil, err
	}
	// The replica's user gets to its files and to the gate.
	if err := os.Chmod(filepath.Dir(at.dstState), 0o711); err != nil {
		return nil, err
	}
	if err := w.startReplica(ctx, w.standby, w.standby); err != nil {
		return nil, err
	}
	primary, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres", w.dir, walPort))
	if err != nil {
		return nil, err
	}
	defer primary.Close(ctx)
	var replica *pgconn.PgConn
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = poll(patient, 20*time.Millisecond, func() (err error) {
		if replica == nil {
			replica, err = pgconn.Connect(patient, fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres", w.standby, walPort))
			if err != nil {
				return err
			}
		}
		_, err = newest(patient, replica)
		return err
	})
	if replica != nil {
		defer replica.Close(ctx)
	}
	if err != nil {
		return nil, err
	}
	run := operations{w: w, primary: primary, replica: replica}
	if ask {
		return run.asking(ctx)
	}
	return run.waiting(ctx)
}

// newest is the last row's number that a server shows.
func newest(ctx context.Context, conn *pgconn.PgConn) (int, error) {
	got := conn.ExecParams(ctx, "SELECT coalesce(max(id), 0) FROM t", nil, nil, nil, nil).Read()
	if got.Err != nil {
		return 0, got.Err
	}
	return strconv.Atoi(string(got.Rows[0][0]))
}

// operations are numbered from 1.
type operations struct {
	w                *walBench
	primary, replica *pgconn.PgConn
}

// commit makes an operation and returns when it was committed.
func (p *operations) commit(ctx context.Context, id int) (time.Time, error) {
	if err := os.WriteFile(filepath.Join(p.w.at.src, strconv.Itoa(id%100)), []byte(strconv.Itoa(id)), 0o644); err != nil {
		return time.Time{}, err
	}
	got := p.primary.ExecParams(ctx, "INSERT INTO t VALUES ("+strconv.Itoa(id)+")", nil, nil, nil, nil).Read()
	return time.Now(), got.Err
}

// shown waits until the replica shows an operation.
func (p *operations) shown(ctx context.Context, id int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return poll(ctx, time.Millisecond, func() error {
		got, err := newest(ctx, p.replica)
		if err == nil && got < id {
			err = fmt.Errorf("the replica is at operation %d, want %d", got, id)
		}
		return err
	})
}

// asking asks for a barrier after each operation, and waits until the replica has it.
func (p *operations) asking(ctx context.Context) (took []time.Duration, err error) {
	begun := time.Now()
	for id := 1; time.Since(begun) < p.w.length; id++ {
		committed, err := p.commit(ctx, id)
		if err != nil {
			return nil, err
		}
		if _, err := p.w.clients[atPrimary].Barrier(ctx, control.BarrierRequest{Wait: control.BarrierApplied}); err != nil {
			return nil, err
		}
		if err := p.shown(ctx, id); err != nil {
			return nil, err
		}
		took = append(took, time.Since(committed))
		if err := pause(ctx, time.Duration(rand.Int64N(int64(100*time.Millisecond)))); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// waiting makes operations at random moments while barriers come by themselves.
func (p *operations) waiting(ctx context.Context) (took []time.Duration, err error) {
	commits := make(chan time.Time, 1<<12)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(commits)
		begun := time.Now()
		for id := 1; time.Since(begun) < p.w.length; id++ {
			at, err := p.commit(ctx, id)
			if err != nil {
				return err
			}
			commits <- at
			if err := pause(ctx, time.Duration(rand.Int64N(int64(80*time.Millisecond)))); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		id := 0
		for at := range commits {
			id++
			if err := p.shown(ctx, id); err != nil {
				return err
			}
			took = append(took, time.Since(at))
		}
		return nil
	})
	err = g.Wait()
	return took, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
