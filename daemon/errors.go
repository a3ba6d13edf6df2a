package daemon

import (
	"errors"
	"strings"

	"repld/control"
	"repld/journal"
	"repld/tree"
	"repld/wire"
)

// explain turns an error of a package below into one with an exit code and a hint.
func explain(err error) error {
	var treeError *tree.Error
	var identity *wire.IdentityError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &treeError):
		code := control.ExitUsage
		if errors.Is(err, tree.ErrRootReplaced) {
			code = control.ExitRefused
		}
		e := control.Errorf(code, "%w", err).WithHint("%s", treeError.Hint)
		e.Text = strings.Replace(e.Text, "; "+treeError.Hint, "", 1)
		return e
	case errors.Is(err, journal.ErrDamaged):
		return control.Errorf(control.ExitFailed, "%w", err).
			WithHint("look after the disk; then move the log's directory away: this node begins a new one, and the standby gets a base")
	case errors.As(err, &identity):
		return control.Errorf(control.ExitFailed, "%w", err).WithHint("%s", identity.Hint)
	}
	return err
}
