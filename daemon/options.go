package daemon

import (
	"io"
	"log/slog"
)

// Role says which of the two sides a daemon in quick mode is.
type Role string

// The roles of quick mode.
const (
	Primary Role = "primary"
	Standby Role = "standby"
)

// Options are the settings of [Run].
type Options struct {
	Role   Role
	Dir    string       // the tree, as the user gave it
	State  string       // state directory; "" = control.QuickState(Dir)
	Listen string       // standby: UDP address to listen on; "" = ":7440"
	Join   string       // primary: the join token; "" = joined before
	Name   string       // of this node; "" = the host's name
	Stdout io.Writer    // the join token and nothing else; nil = discard
	Stderr io.Writer    // progress bar, where it is a terminal; nil = none
	Logger *slog.Logger // nil = discard
}
