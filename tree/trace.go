package tree

import (
	"strings"
	"sync"
)

// Trace records the operations that change something, and Sync, for comparison with
// a golden trace: the order of writes, renames and syncs is what a crash-safe
// publish stands on. Use it as WithHook(fs, trace.Record). The zero value is ready;
// it is safe for concurrent use.
type Trace struct {
	// Reads records operations that change nothing, too. Set it before use.
	Reads bool

	mu  sync.Mutex
	ops []Op
}

// Record adds op. It never fails.
func (t *Trace) Record(op Op) error {
	if t.Reads || op.Writes() || op.Name == "sync" {
		t.mu.Lock()
		t.ops = append(t.ops, op)
		t.mu.Unlock()
	}
	return nil
}

// Ops returns what was recorded so far.
func (t *Trace) Ops() []Op {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Op(nil), t.ops...)
}

// String returns the trace, one operation a line.
func (t *Trace) String() string {
	var b strings.Builder
	for _, op := range t.Ops() {
		b.WriteString(op.String())
		b.WriteByte('\n')
	}
	return b.String()
}
