package repld

import (
	"os"
	"runtime/debug"
)

// Settings of the garbage collector. What lives is little, some 30 MiB, and what is
// made while much is captured or staged is much: at twice the usual distance between
// collections they take half the time, and the limit keeps the whole process below
// 200 MiB with the pages of the catalog that it maps.
const (
	gcPercent   = 200
	memoryLimit = 144 << 20
)

// tuneMemory sets them, unless the environment says otherwise; see package runtime.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
