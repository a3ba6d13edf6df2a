package daemon

import (
	"io"
	"log/slog"
	"time"

	"repld/change"
	"repld/control"
	"repld/watch"
)

// Options are the settings of [Run].
type Options struct {
	Name       string              // of this node; "" = the host's name
	Designated control.Designation // what this node is meant to be
	State      string              // state directory
	Control    string              // control socket; "" = control.sock in the state directory
	Listen     string              // UDP address to listen on; "" = none
	Peer       PeerOptions
	Groups     []GroupOptions // at least one

	Stdout io.Writer    // the join token of quick mode and nothing else; nil = discard
	Stderr io.Writer    // progress bar, where it is a terminal; nil = none
	Logger *slog.Logger // nil = discard
	Clock  change.Clock // nil = the system's

	quick *quickMode // nil = a service
}

// PeerOptions say where the other node is; both may be unknown until it has joined.
type PeerOptions struct {
	Name    string // "" = any; another name is refused when it joins
	Address string // host:port; "" = the one that it joined with
}

// GroupOptions are one consistency group.
type GroupOptions struct {
	Name  string
	Trees []TreeOptions // at least one
	Watch watch.Backend // "" = auto
	GroupSettings
}

// GroupSettings are what may change while a group runs.
type GroupSettings struct {
	Every        time.Duration // a barrier is due this long after the last; 0 = 1 s
	LateAfter    time.Duration // 0 = 10 s
	RescanEvery  time.Duration // 0 = 1 h
	JournalLimit int64         // bytes of the log on disk; 0 = 8 GiB
}

// TreeOptions are one tree of a group.
type TreeOptions struct {
	Name    string
	Path    string // absolute
	Staging string // standby: directory on the same file system; "" = chosen by package tree
}

// defaultJournalLimit bounds a group's log on disk on either side, in bytes.
const defaultJournalLimit = 8 << 30
