package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"repld/change"
	"repld/dblog"
)

// control is what pg_control tells of a data directory (catalog/pg_control.h; these
// fields stand where they do since version 9.3).
type control struct {
	system     uint64
	state      uint32
	checkpoint LSN
	timeline   uint32
}

// shutDown is the state of a primary that was stopped cleanly.
const shutDown = 1

func readControl(dataDir string) (control, error) {
	b, err := os.ReadFile(filepath.Join(dataDir, "global", "pg_control"))
	if err != nil {
		return control{}, err
	}
	if len(b) < 56 {
		return control{}, fmt.Errorf("pg_control has %d bytes, want 56 at least", len(b))
	}
	return control{
		system: binary.NativeEndian.Uint64(b), state: binary.NativeEndian.Uint32(b[16:]),
		checkpoint: LSN(binary.NativeEndian.Uint64(b[32:])), timeline: binary.NativeEndian.Uint32(b[48:]),
	}, nil
}

// lastRecord is how long the record of a checkpoint is at most, with a page's header.
const lastRecord = 512

// Rejoin makes the data directory of the former primary a replica of the one that was
// promoted. That works without a seed if it was stopped cleanly and the other was
// promoted at the end of its log; else the answer is [dblog.ErrNeedsSeed], and nothing
// was changed. The server must not run.
func Rejoin(at dblog.Promotion, o RestoreOptions) error {
	return rejoin(at, o, func() error { return nil })
}

// rejoin is Rejoin that calls prepared before it changes anything.
func rejoin(at dblog.Promotion, o RestoreOptions, prepared func() error) error {
	c, err := readControl(o.DataDir)
	if err != nil {
		return err
	}
	if running(o.DataDir) {
		return fmt.Errorf("%w on %s", dblog.ErrRunning, o.DataDir)
	}
	fork := LSN(at.At.Offset)
	switch {
	case c.state != shutDown:
		return fmt.Errorf("%w: its state in pg_control is %d, want %d (shut down)", dblog.ErrNeedsSeed, c.state, shutDown)
	case c.timeline != at.At.Chapter:
		return fmt.Errorf("%w: it ended on timeline %d, the other was promoted on timeline %d", dblog.ErrNeedsSeed, c.timeline, at.At.Chapter)
	case c.checkpoint >= fork || fork-c.checkpoint > lastRecord:
		return fmt.Errorf("%w: its log ends with a checkpoint at %v, the other was promoted at %v", dblog.ErrNeedsSeed, c.checkpoint, fork)
	}
	root, err := os.OpenRoot(o.DataDir)
	if err != nil {
		return err
	}
	defer root.Close()
	x := extraction{root: root, o: o}
	if err := prepared(); err != nil {
		return err
	}
	if err := x.configure(); err != nil {
		return fmt.Errorf("configure the replica: %w", err)
	}
	return x.sync()
}

// Rejoin makes a replica of the data directory of a former primary, as soon as the
// stream of the present one shows where it was promoted. See [dblog.Joiner].
func (g *Gate) Rejoin(ctx context.Context, o RestoreOptions) error {
	if _, err := os.Stat(filepath.Join(o.DataDir, "standby.signal")); err == nil {
		return nil
	}
	c, err := readControl(o.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no database in %s", dblog.ErrNeedsSeed, o.DataDir)
	}
	if err != nil {
		return err
	}
	if running(o.DataDir) {
		return fmt.Errorf("%w on %s", dblog.ErrRunning, o.DataDir)
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		at, known, err := g.successor(c)
		if err != nil {
			return err
		}
		if known {
			return rejoin(at, o, func() error {
				return g.anew(gateState{floor: at.At})
			})
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the primary's stream hasn't shown yet where it left timeline %d: %w", c.timeline, ctx.Err())
		case <-ticker.C:
		}
	}
}

// successor returns where the history of the stream leaves the timeline on which a data
// directory ended, false while the stream has nothing behind that.
func (g *Gate) successor(c control) (at dblog.Promotion, known bool, err error) {
	chapters := g.opts.Spool.Chapters()
	if len(chapters) == 0 {
		return at, false, nil
	}
	newest := chapters[len(chapters)-1]
	about, err := parseInfo(newest.Info)
	if err != nil {
		return at, false, err
	}
	if about.System != strconv.FormatUint(c.system, 10) {
		return at, false, fmt.Errorf("%w: its system identifier is %d, that of the primary's stream %s", dblog.ErrNeedsSeed, c.system, about.System)
	}
	if newest.Number <= c.timeline {
		return at, false, nil
	}
	line := lineage{timeline: newest.Number}
	if line.forks, err = parseHistory(about.History); err != nil {
		return at, false, err
	}
	end, next, historic, ok := line.end(c.timeline)
	if !ok || !historic {
		return at, false, fmt.Errorf("%w: it ended on timeline %d, of which the primary's timeline %d does not come", dblog.ErrNeedsSeed, c.timeline, newest.Number)
	}
	at = dblog.Promotion{At: change.StreamPosition{Chapter: c.timeline, Offset: uint64(end)}, Chapter: next}
	return at, true, nil
}
