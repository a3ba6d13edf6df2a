package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// SystemSocket is where the service listens.
const SystemSocket = "/run/repld/control.sock"

// StateHome returns the directory that holds the state directories of quick
// mode: $XDG_STATE_HOME/repld, or ~/.local/state/repld. (XDG Base Directory
// Specification: a relative $XDG_STATE_HOME counts as unset.)
func StateHome() (string, error) {
	if home := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, "repld"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", Errorf(ExitUsage, "no place for the state directory: %w", err).
			WithHint("set $XDG_STATE_HOME or $HOME, or give --state")
	}
	return filepath.Join(home, ".local", "state", "repld"), nil
}

// QuickState returns the state directory of quick mode for the tree dir: a
// directory under [StateHome] that is named by a hash of dir's absolute path,
// symbolic links resolved where dir exists.
func QuickState(dir string) (string, error) {
	home, err := StateHome()
	if err != nil {
		return "", err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", Errorf(ExitFailed, "%s: %w", dir, err)
	}
	if resolved, err := filepath.EvalSymlinks(abs); err == nil {
		abs = resolved
	}
	sum := sha256.Sum256([]byte(abs))
	return filepath.Join(home, hex.EncodeToString(sum[:8])), nil
}

// patienceOfSearch is how long a daemon may take to answer while sockets are
// being tried.
const patienceOfSearch = 2 * time.Second

// FindSocket returns the socket of the daemon that a tool means when it names
// none: the service's, else that of the only quick-mode daemon that answers.
// Where several do, the error lists them.
func FindSocket(ctx context.Context) (string, error) {
	return findSocket(ctx, SystemSocket, StateHome)
}

func findSocket(ctx context.Context, system string, stateHome func() (string, error)) (string, error) {
	systemErr := probe(ctx, system, nil)
	if systemErr == nil {
		return system, nil
	}
	var tried string
	var found, described []string
	if home, err := stateHome(); err == nil {
		tried = filepath.Join(home, "*", SocketName)
		paths, _ := filepath.Glob(tried) // fails on a bad pattern only
		slices.Sort(paths)
		for _, path := range paths {
			var status Status
			if probe(ctx, path, &status) == nil {
				found = append(found, path)
				described = append(described, describe(path, &status))
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", Errorf(ExitUsage, "%d daemons answer; say which one is meant:\n%s", len(found), strings.Join(described, "\n"))
	case errors.Is(systemErr, fs.ErrPermission):
		return "", Errorf(ExitNoDaemon, "no permission to ask the daemon on %s", system).
			WithHint("run replctl as the user that repld runs as, or as root")
	}
	text := "no daemon answers on " + system
	if tried != "" {
		text += " or " + tried
	}
	return "", Errorf(ExitNoDaemon, "%s", text).
		WithHint("is repld running? --socket or REPLCTL_SOCKET says where its control socket is")
}

// probe asks who listens at path; nil means that a daemon answered.
func probe(ctx context.Context, path string, status *Status) error {
	conn, err := dialUnix(path, patienceOfSearch)
	if err != nil {
		return err
	}
	conn.Close()
	if status == nil {
		return nil
	}
	c := NewClient(path, ClientOptions{Patience: patienceOfSearch})
	defer c.Close()
	s, err := c.Status(ctx)
	if err == nil {
		*status = *s
	}
	return err
}

func describe(path string, s *Status) string {
	var trees []string
	for _, g := range s.Groups {
		for _, t := range g.Trees {
			trees = append(trees, t.Path)
		}
	}
	return fmt.Sprintf("  --socket %s   (%s on %s, %s)", path, s.Role, s.Node, strings.Join(trees, ", "))
}
