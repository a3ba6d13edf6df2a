package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"repld/config"
	"repld/control"
	"repld/tree"
	"repld/wire"
)

// Role says which of the two sides a daemon in quick mode is.
type Role string

// The roles of quick mode.
const (
	Primary Role = "primary"
	Standby Role = "standby"
)

// QuickOptions are the settings of [RunQuick].
type QuickOptions struct {
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

// quickMode is what quick mode has that a service hasn't.
type quickMode struct {
	dir   string      // absolute
	token string      // primary: as it was given
	join  *wire.Token // primary: nil once paired
}

// Quick mode has one group with one tree.
const quickName = "tree"

// RunQuick runs a node of one tree, without a configuration, until ctx ends, which
// is a clean stop and nil. Errors that an operator can act on are a [control.Error].
func RunQuick(ctx context.Context, q QuickOptions) error {
	o, err := q.options()
	if err != nil {
		return err
	}
	return Run(ctx, o)
}

func (q QuickOptions) options() (Options, error) {
	dir, err := filepath.Abs(q.Dir)
	if err != nil {
		return Options{}, control.Errorf(control.ExitUsage, "%s: %w", q.Dir, err)
	}
	if err := checkDir(dir); err != nil {
		return Options{}, err
	}
	if q.State == "" {
		if q.State, err = control.QuickState(dir); err != nil {
			return Options{}, err
		}
	}
	if q.State, err = filepath.Abs(q.State); err != nil {
		return Options{}, control.Errorf(control.ExitUsage, "state directory: %w", err)
	}
	c := &config.Config{
		Node: q.Name, Designated: config.Primary, State: q.State, Control: filepath.Join(q.State, control.SocketName),
		Groups: []config.Group{{
			Name: quickName, Trees: []config.Tree{{Name: quickName, Path: dir, Watch: config.WatchAuto}},
			GroupLive: config.DefaultGroup(),
		}},
	}
	if q.Role == Standby {
		c.Designated, c.Listen = config.Secondary, q.Listen
		if c.Listen == "" {
			c.Listen = config.DefaultListen
		}
	}
	return Options{Config: c, Stdout: q.Stdout, Stderr: q.Stderr, Logger: q.Logger, quick: &quickMode{dir: dir, token: q.Join}}, nil
}

// checkDir refuses what can't be a replicated tree before anything is made.
func checkDir(dir string) error {
	root, err := tree.Open(dir, tree.Options{})
	if err != nil {
		return explain(err)
	}
	return root.Close()
}

// readToken reads the join token of a primary in quick mode, which is needed as
// long as there is no peer.
func (n *node) readToken() error {
	q := n.opts.quick
	if q == nil || !n.primary() {
		return nil
	}
	if n.paired {
		return n.checkToken(q.token)
	}
	if q.token == "" {
		return control.Errorf(control.ExitUsage, "this primary has no standby yet: --join is needed").
			WithHint("run repld standby DIR on the other machine and give the token that it prints: repld primary %s --join TOKEN; "+
				"one that was paired with this node before prints none until peer.yaml is removed from its state directory", q.dir)
	}
	token, err := n.parseToken(q.token)
	if err != nil {
		return err
	}
	q.join = &token
	return nil
}

// parseToken reads a token that an operator has given.
func (n *node) parseToken(text string) (wire.Token, error) {
	token, err := wire.ParseToken(text, n.clock.Now())
	switch {
	case errors.Is(err, wire.ErrTokenExpired):
		return token, control.Errorf(control.ExitRefused, "%w", err).
			WithHint("get a new token: replctl invite on the other node, or start repld standby there again as long as it has no peer")
	case err != nil:
		return token, control.Errorf(control.ExitUsage, "join token: %w", err).
			WithHint("copy the whole line that the other node printed, after \"join token:\"")
	}
	return token, nil
}

// checkToken refuses a token of another standby than the paired one. The token
// that paired them, used or expired, may stay in a start script.
func (n *node) checkToken(text string) error {
	if text == "" {
		return nil
	}
	token, err := wire.ParseToken(text, time.Time{})
	if err != nil {
		return control.Errorf(control.ExitUsage, "join token: %w", err).WithHint("this primary is paired with %s and needs no token", n.peer.Name)
	}
	if token.Key != n.peerKey {
		return control.Errorf(control.ExitRefused, "this primary is paired with %s (key %v); the join token is of another node (key %v)", n.peer.Name, n.peerKey, token.Key).
			WithState(string(control.RoleProduction)).
			WithHint("leave --join out to go on with %s; if that one lost its state, or the other node takes its place, remove %s first",
				n.peer.Name, n.state.file("peer.yaml"))
	}
	return nil
}

// printToken prints a join token while a standby in quick mode has no peer.
func (n *node) printToken() error {
	if _, _, paired := n.peerNow(); paired {
		return nil
	}
	token, err := n.issue("")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(n.opts.Stdout, "join token: %s\n", token)
	return err
}
