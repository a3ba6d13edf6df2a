package watch

import (
	"fmt"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"

	"repld/change"
	"repld/health"
)

// overflowMemory is how long an overflow stays a standing condition.
const overflowMemory = 5 * time.Minute

// trouble collects what a back end has to say about itself.
type trouble struct {
	clock change.Clock

	mu        sync.Mutex
	overflows int
	last      time.Duration
	reason    string
	unwatched int
	example   string
	cause     error
}

func (t *trouble) overflow(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.overflows++
	t.last, t.reason = t.clock.Mono(), reason
}

// limited says that n directories have no watch, one of them and why.
func (t *trouble) limited(n int, example string, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unwatched, t.example, t.cause = n, example, cause
}

func (t *trouble) conditions() []health.Condition {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []health.Condition
	if t.overflows > 0 && t.clock.Mono()-t.last < overflowMemory {
		all = append(all, health.Condition{Code: health.WatchOverflow,
			Text: fmt.Sprintf("events were lost (%s), %s since the start; the trees were scanned again", t.reason, english.Plural(t.overflows, "time", ""))})
	}
	if t.unwatched > 0 {
		all = append(all, health.Condition{Code: health.WatchLimit,
			Text: fmt.Sprintf("no watch on %s with what is below, such as %q (%v): polled instead", english.Plural(t.unwatched, "directory", "directories"), t.example, t.cause)})
	}
	return all
}
