package postgres

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

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
	c, err := readControl(o.DataDir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(o.DataDir, "postmaster.pid")); err == nil {
		return fmt.Errorf("the server of %s runs, or crashed (postmaster.pid is there), want it stopped", o.DataDir)
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
	if err := x.configure(); err != nil {
		return fmt.Errorf("configure the replica: %w", err)
	}
	return x.sync()
}
