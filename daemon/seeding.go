package daemon

import (
	"context"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"repld/change"
	"repld/control"
	"repld/control/view"
	"repld/wire"
)

// seedClock measures how fast a seed goes, for telling how long it will take.
type seedClock struct {
	mu    sync.Mutex
	began time.Duration // monotonic; 0: no seed is going on
	from  uint64        // bytes that were done then
}

// status says how far the seed that a standby reports is; nil if none was seen.
func (c *seedClock) status(m wire.Progress, clock change.Clock) *control.Seed {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.SeedFilesTotal == 0 {
		return nil
	}
	seed := &control.Seed{FilesDone: m.SeedFilesDone, FilesTotal: &m.SeedFilesTotal, BytesDone: m.SeedBytesDone, BytesTotal: &m.SeedBytesTotal}
	if m.Phase != wire.PhaseSeeding {
		c.began = 0
		seed.FilesDone, seed.BytesDone = m.SeedFilesTotal, m.SeedBytesTotal
		seed.ETA = new(control.Seconds)
		return seed
	}
	now := clock.Mono()
	if c.began == 0 || m.SeedBytesDone < c.from {
		c.began, c.from = now, m.SeedBytesDone
	}
	if done := m.SeedBytesDone - c.from; done > 0 {
		left := m.SeedBytesTotal - min(m.SeedBytesDone, m.SeedBytesTotal)
		eta := control.Seconds(float64(now-c.began) * float64(left) / float64(done))
		seed.ETA = &eta
	}
	return seed
}

// drawEvery is how often the progress bar is drawn.
const drawEvery = 250 * time.Millisecond

// drawSeed shows a seed as a progress bar where standard error is a terminal.
func (n *node) drawSeed(ctx context.Context) error {
	terminal, ok := n.opts.Stderr.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return nil
	}
	line, meter := view.NewLine(terminal), new(view.SeedMeter)
	defer line.End()
	ticker := time.NewTicker(drawEvery)
	defer ticker.Stop()
	drawn := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		g := n.groups[0].status(ctx)
		switch {
		case g.Phase == control.PhaseSeeding && g.Seed != nil:
			line.Draw(meter.Line(g.Seed, n.clock.Now()))
			drawn = true
		case drawn:
			line.End()
			drawn, meter = false, new(view.SeedMeter)
		}
	}
}
