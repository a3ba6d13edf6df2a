package config

import (
	"log/slog"
	"time"
)

// Config is a whole configuration.
type Config struct {
	Node       string // "": the host's name
	Designated Designation
	Listen     string // UDP host:port
	State      string // directory
	Control    string // path of the Unix socket
	HTTP       string // TCP host:port; "" = off
	Peer       Peer
	Groups     []Group // at least one, in the order of the file
	// StartAlone is for a node that can't ask its peer when it starts.
	StartAlone   StartAlone
	Coordination Coordination
	Live

	source
}

// Live are the settings of the node that may change while it runs.
type Live struct {
	DiskReserve Reserve
	LogLevel    *slog.Level // nil: the file doesn't say, the command line does
	Hooks       Hooks
	Alerts      []Alert
	Parity      Parity
}

// Designation is what a machine is meant to be.
type Designation string

// The designations.
const (
	Primary   Designation = "primary"
	Secondary Designation = "secondary"
)

// Peer is the other node; the zero value: it is known by pairing only.
type Peer struct {
	Name    string
	Address string // host:port
}

// Group is one consistency group: its trees are cut at the same instant.
type Group struct {
	Name  string // unique; fits a file name
	Trees []Tree // at least one, in the order of the file
	// Databases are held at the group's barriers, in the order of the file.
	Databases []Database
	GroupLive
}

// GroupLive are the settings of a group that may change while it runs.
type GroupLive struct {
	Barrier   Barrier
	Bandwidth Bandwidth
	Journal   Journal
	History   History
	Guard     Guard
	Rescan    Rescan
}

// Tree is one directory tree.
type Tree struct {
	Name       string   // unique in its group; fits a file name
	Path       string   // absolute and clean
	Exclude    []string // doublestar patterns relative to Path
	AppendOnly []string // doublestar patterns relative to Path
	Staging    string   // absolute and clean; "": chosen beside the tree
	Watch      Watch
}

// Watch is how changes of a tree are noticed.
type Watch string

// The ways to watch.
const (
	WatchAuto     Watch = "auto" // fanotify where it can be, else inotify
	WatchFanotify Watch = "fanotify"
	WatchInotify  Watch = "inotify"
	WatchPoll     Watch = "poll"
)

// Barrier is when barriers are cut.
type Barrier struct {
	Every     time.Duration // a barrier is due this long after the last one if something changed
	LateAfter time.Duration // without a barrier or confirmation for this long it is late; longer than Every
	// Freeze needs a restart, unlike the rest.
	Freeze Freeze
}

// Bandwidth limits what a group sends.
type Bandwidth struct {
	Limit   Rate     // outside of the windows; 0 = none
	Windows []Window // don't overlap; sorted by From
}

// Window is a time of each day, in local time, with its own limit.
type Window struct {
	From, To TimeOfDay // From included, To not; To before From is over midnight
	Limit    Rate      // 0 = none
}

// Journal limits the log of a group, on either node.
type Journal struct {
	Limit Size // on disk
}

// History is what a standby keeps of replaced content.
type History struct {
	Keep  time.Duration // age of the oldest barrier that is kept; 0 = no history
	Limit Size          // on disk
	Every []Thin        // by ascending age
}

// Thin says how many barriers are kept: up to the age Until one for each
// Interval. Above the last Until, that step's Interval goes on.
type Thin struct {
	Until    time.Duration
	Interval time.Duration // 0 = all
}

// Guard stops a group before it applies something that looks like a mistake.
type Guard struct {
	Changed Percent // of a tree, deleted or rewritten within one barrier; 100 = never
}

// Rescan is when a whole tree is looked at for what no event told.
type Rescan struct {
	Every time.Duration
}

// Alert tells somebody about changes of health. Either Exec or Post is set.
type Alert struct {
	Exec        []string // absolute path of a program and its arguments
	Post        string   // URL
	Headers     []Header // of the request, in the order of the file
	HeadersFile string   // a file with more of them, one "Name: value" a line; "" = none
	AtMostEvery time.Duration
	Timeout     time.Duration
}

// Header is one header field of an HTTP request.
type Header struct {
	Name, Value string
}

// The defaults.
const (
	DefaultPath        = "/etc/repld/repld.yaml" // of the file itself
	DefaultListen      = ":7440"
	DefaultState       = "/var/lib/repld"
	DefaultControl     = "/run/repld/control.sock"
	DefaultAtMostEvery = 5 * time.Minute
	DefaultTimeout     = 30 * time.Second
)

// DefaultReserve returns what is kept free on a disk where nothing else is said.
func DefaultReserve() Reserve { return Reserve{Percent: 5} }

// DefaultGroup returns the settings of a group where nothing else is said.
func DefaultGroup() GroupLive {
	return GroupLive{
		Barrier: Barrier{Every: time.Second, LateAfter: 10 * time.Second, Freeze: Freeze{Max: 50 * time.Millisecond}},
		Journal: Journal{Limit: 8 << 30},
		History: History{
			Keep: 24 * time.Hour, Limit: 20 << 30,
			Every: []Thin{{Until: time.Hour}, {Until: 24 * time.Hour, Interval: time.Minute}},
		},
		Guard:  Guard{Changed: 50},
		Rescan: Rescan{Every: time.Hour},
	}
}
