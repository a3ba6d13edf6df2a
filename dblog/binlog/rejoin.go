package binlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"repld/change"
	"repld/dblog"
)

// Rejoin makes a replica of a former primary that was shut down cleanly, if the stream
// of the present one leads through where it ended; see [dblog.Joiner]. The server is
// pointed to the gate when it has been started.
func (g *Gate) Rejoin(ctx context.Context, dataDir string) error {
	g.mu.Lock()
	replica := !g.state.Floor.position().IsZero()
	g.mu.Unlock()
	if replica {
		return nil
	}
	running, err := occupied(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no database in %s", dblog.ErrNeedsSeed, dataDir)
	}
	if err != nil {
		return err
	}
	if running {
		return fmt.Errorf("%w on %s", dblog.ErrRunning, dataDir)
	}
	have, err := g.lastOf(dataDir)
	if err != nil {
		return err
	}
	for {
		floor, known, err := g.joint(have)
		if err != nil {
			return err
		}
		if known {
			return g.anew(gateState{Floor: floor.stored(), Replayed: floor.stored(), Point: true, Adopt: true})
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the primary's stream hasn't begun yet: %w", ctx.Err())
		case <-time.After(lookEvery):
		}
	}
}

// lastOf returns the transactions that a former primary has.
func (g *Gate) lastOf(dataDir string) (history, error) {
	r, err := loadRecord(g.opts.Home)
	if err != nil {
		return nil, err
	}
	logs := logFiles(r.LogBin)
	if logs == "" {
		found, err := filepath.Glob(filepath.Join(dataDir, "*.state"))
		if err != nil || len(found) != 1 {
			return nil, fmt.Errorf("%w: it isn't known where its binary logs are", dblog.ErrNeedsSeed)
		}
		logs = logFiles(found[0][:len(found[0])-len(".state")])
	}
	clean, err := g.dialect.clean(logs)
	if err == nil && !clean {
		err = fmt.Errorf("%w: it wasn't shut down cleanly, by what stands in %s", dblog.ErrNeedsSeed, filepath.Dir(string(logs)))
	}
	if err != nil {
		return nil, err
	}
	base, err := g.dialect.parse(r.Base)
	if err != nil {
		return nil, err
	}
	return g.dialect.last(logs, base)
}

// joint returns the place in the stream that a former primary has come to, false while
// there is no stream.
func (g *Gate) joint(have history) (place, bool, error) {
	chapters := g.opts.Spool.Chapters()
	if len(chapters) == 0 {
		return place{}, false, nil
	}
	first := chapters[0]
	about, err := parseInfo(g.dialect, first.Info)
	if err != nil {
		return place{}, false, err
	}
	from := place{at: change.StreamPosition{Chapter: first.Number, Offset: first.Start}, state: about.state}
	if !from.state.within(have) {
		return from, false, fmt.Errorf("%w: it ended at %q, the primary's stream begins at %q", dblog.ErrNeedsSeed, have, from.state)
	}
	to, err := passage(g.dialect, g.opts.Spool, from, g.opts.Spool.End(), have)
	if errors.Is(err, errNotPassed) {
		err = fmt.Errorf("%w: it ended at %q, where the primary's stream never was, which begins at %q", dblog.ErrNeedsSeed, have, from.state)
	}
	return to, err == nil, err
}
