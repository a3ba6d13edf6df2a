package capture

import (
	"log/slog"
	"time"

	"repld/change"
	"repld/health"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
	"repld/watch"
)

// Tree is one tree of the group.
type Tree struct {
	Name string
	Root *tree.Root
	// Skip says which paths are not replicated; nil means none.
	Skip func(path string) bool
	// AppendOnly says which files only ever grow at their end. They are taken as
	// a prefix, and growing doesn't disturb a cut; nil means none.
	AppendOnly func(path string) bool
}

// Options configures a [Capturer].
type Options struct {
	Group   string
	Trees   []Tree
	Watcher watch.Watcher // of the same trees in the same order
	Log     *journal.Log
	Catalog *catalog.Catalog
	Epoch   change.Epoch
	Clock   change.Clock
	Board   *health.Board
	Logger  *slog.Logger

	// BootID tells this boot of the machine from others (random/boot_id of
	// proc(5)). After another boot, files that changed within a minute before the
	// last barrier are read again: a power loss can keep an inode and lose its data.
	BootID string

	Settings

	// Databases are those of the group. Each barrier holds the position of every one
	// of them; without it there is no barrier.
	Databases []Database

	// Freezer has the application stand still where rounds in its midst don't make
	// a cut; nil: there is nothing of the kind. With FreezeFirst every barrier is cut so.
	Freezer     Freezer
	FreezeFirst bool

	MaxRounds int // of one attempt, and four times as many within a quarter of Every; 0 means 8

	// Space tells how many bytes can still be written on the file system of the log,
	// and how many of them are to be kept free. Below that the log is as at its limit,
	// and below an eighth of it nothing is written at all. It is asked once for each
	// attempt and every 32 MiB; nil means that there is always room.
	Space func() (free, reserve uint64, err error)
	// Waiting reports whether the standby has complete barriers still to apply, by
	// which the log would shrink; nil means that it always has.
	Waiting func() bool
	// Invisible lists files that can change without an event at the moment; nil
	// means none. It is asked at most every InvisibleEvery (0 means 5 s).
	Invisible      func() ([]watch.Unseen, error)
	InvisibleEvery time.Duration
	// OnBarrier is called after each barrier that is durable, from Run, with the
	// monotonic time of the oldest change in it; nil means no call.
	OnBarrier func(b change.Barrier, oldest time.Duration)
}

// Settings are the options that [Capturer.Set] changes while Run runs.
type Settings struct {
	Every       time.Duration // a barrier is due this long after the last if something changed; 0 means 1 s
	LateAfter   time.Duration // without a barrier for this long it is late; 0 means 10 s
	RescanEvery time.Duration // full rescan for what no event told; 0 means 1 h
	// JournalLimit bounds the log's bytes on disk; 0 means 8 GiB.
	JournalLimit int64
}

func (s Settings) withDefaults() Settings {
	setDefault(&s.Every, time.Second)
	setDefault(&s.LateAfter, 10*time.Second)
	setDefault(&s.RescanEvery, time.Hour)
	setDefault(&s.JournalLimit, 8<<30)
	return s
}

func (o Options) withDefaults() Options {
	o.Settings = o.Settings.withDefaults()
	setDefault(&o.MaxRounds, 8)
	setDefault(&o.InvisibleEvery, 5*time.Second)
	return o
}

func setDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}
