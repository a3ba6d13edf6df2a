package repld

import (
	"log/slog"
	"os"
	"runtime/debug"

	"repld/program"
)

// Settings of the garbage collector. What lives is little, some 30 MiB, and what is
// made while much is captured or staged is much: at twice the usual distance between
// collections they take half the time, and the limit keeps the whole process below
// 200 MiB with the pages of the catalog that it maps. The environment goes before them;
// see package runtime.
const (
	gcPercent   = 200
	memoryLimit = 144 << 20
)

// tune fits the process to its work beside others.
//
// It waits most of the time for the disk, the link or another goroutine. On a machine
// that is busy each thread that wakes up would push another off its processor: one of
// production's, or one of its own that was about to hand over more at once.
func tune(logger *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if err := program.Batch(); err != nil {
		logger.Debug("the daemon is not scheduled as a batch, which may cost processor time", "error", err)
	}
}
