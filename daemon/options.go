package daemon

import (
	"io"
	"log/slog"
	"time"

	"repld/change"
	"repld/config"
)

// Options are the settings of [Run].
type Options struct {
	Config *config.Config // required
	Stdout io.Writer      // the join token of quick mode and nothing else; nil = discard
	Stderr io.Writer      // progress bar of quick mode, where it is a terminal; nil = none
	Logger *slog.Logger   // nil = discard
	Clock  change.Clock   // nil = the system's

	// Reload has a value when the configuration is to be read again, by Reread. nil =
	// never.
	Reload <-chan struct{}
	Reread func() (*config.Config, error)
	// LogLevel is set as the configuration says, where it does; nil = it isn't.
	LogLevel *slog.LevelVar

	quick *quickMode // nil = a service
	// patience is how long the peer's answer is waited for at the start; 0 = patience, or
	// quickPatience.
	patience time.Duration
	// afterPromotion is how long a cutover waits for its peer to serve; 0 = the constant of that name.
	afterPromotion time.Duration
	// linkBack is how long a step waits for a link that has broken; 0 = the constant of that name.
	linkBack time.Duration
	// proofMost is how long a peer that carries out an order, was asked to step down, takes over, or is rejoined may say
	// nothing; 0 = the constant of that name.
	proofMost time.Duration
	// readyWithin and barrierMost bound steps of a cutover; 0 = the constant of that name.
	readyWithin, barrierMost time.Duration
	// sayEvery is how often the peer is told what this node is; 0 = the constant of that name.
	sayEvery time.Duration
	// fault is called at each fault point of a change of roles; an error ends the daemon
	// there, as a crash would. nil = there are none.
	fault func(point string) error
	// abrupt: the end tells the peer nothing, as that of a machine does.
	abrupt bool
}

// builtFault is what programs that are built for tests (with the tag faultpoints) have as
// fault; nil in every other.
var builtFault func(point string) error
