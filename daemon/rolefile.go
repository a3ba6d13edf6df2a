package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"repld/change"
	"repld/control"
	"repld/durable"
	"repld/journal/catalog"
	"repld/role"
)

// roleName is the file of the node's role, as package role writes it, and bootName that
// of the boot of the machine in which the daemon ran last.
const (
	roleName = "role.yaml"
	bootName = "boot.yaml"
)

// loadRole reads the node's role. One that is lost or damaged is never taken for that of
// a new node: only the peer knows what has happened since.
func (n *node) loadRole() (role.Stored, error) {
	self, designated := role.ID(n.id.Fingerprint().String()), role.Secondary
	if n.primary() {
		designated = role.Primary
	}
	path := n.state.file(roleName)
	data, err := os.ReadFile(path)
	var s role.Stored
	if err == nil {
		if data, err = unseal(data); err != nil {
			err = fmt.Errorf("%w: %w", role.ErrDamaged, err)
		}
	}
	if err == nil {
		s, err = role.Unmarshal(data)
	}
	switch {
	case err == nil && s.Self == self && s.Designated == designated:
		return s, nil
	case err == nil:
		return s, control.Errorf(control.ExitRefused, "%s is of another node: found %s, designated %s, want %s, designated %s",
			path, s.Self, s.Designated, self, designated).WithState("down").
			WithHint("a state directory can't be copied from one node to another: remove it here, and pair the nodes anew")
	case errors.Is(err, role.ErrFormat):
		return s, control.Errorf(control.ExitFailed, "%s: %w", path, err).WithHint("start the newer version of repld that wrote it")
	case errors.Is(err, role.ErrDamaged):
		kept, err := durable.SetAside(path)
		if err != nil {
			return s, control.Errorf(control.ExitFailed, "state directory: %w", err)
		}
		n.logger.Error("the role of this node is damaged; its peer must tell", "kept as", kept)
	case !errors.Is(err, fs.ErrNotExist):
		return s, control.Errorf(control.ExitFailed, "%s: %w", path, err)
	case !n.hadRole():
		// It was never paired, or by a version without roles: start tells of the pairing.
		return role.NewState(self, designated), nil
	}
	if !n.paired {
		return role.NewState(self, designated), nil
	}
	floor, err := n.newestEpoch()
	return role.LostState(self, role.ID(n.peerKey.String()), designated, floor), err
}

// hadRole reports whether the state directory is known to have held a role.
func (n *node) hadRole() bool {
	var f nodeFile
	ok, err := n.state.load(nodeName, &f)
	return err == nil && ok && f.Roles
}

// newestEpoch is the highest epoch of the barriers that this node holds.
func (n *node) newestEpoch() (newest change.Epoch, err error) {
	for _, g := range n.conf.Groups {
		path := n.state.file(filepath.Join(groupFile(g.Name, "catalog.db")))
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		c, err := catalog.Open(path, catalog.Options{})
		if err != nil {
			continue // it is damaged too, and will be set aside
		}
		err = c.View(func(tx *catalog.Tx) error {
			for b := range tx.Barriers() {
				newest = max(newest, b.ID.Epoch)
			}
			return nil
		})
		if err := errors.Join(err, c.Close()); err != nil {
			return newest, fmt.Errorf("look for the newest epoch in %s: %w", path, err)
		}
	}
	return newest, nil
}

// Save stores the node's role durably, after what was chosen for a plan that begins; see
// [role.Store].
func (r *roles) Save(s role.Stored) error {
	data, err := role.Marshal(s)
	if err != nil {
		return err
	}
	chosen, err := r.choose(s)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(r.node.state.file(roleName), seal(data), 0o600); err != nil {
		return err
	}
	chosen()
	if s.Peer == "" || r.marked {
		return nil
	}
	// From here on its absence means that it was lost.
	if err := r.node.state.mark(func(f *nodeFile) { f.Roles = true }); err != nil {
		return err
	}
	r.marked = true
	return nil
}

// bootFile is the boot of the machine in which the daemon ran last.
type bootFile struct {
	ID string `yaml:"id"`
}

// noteBoot notes the present boot, and reports whether the last run was in another.
func (s *stateDir) noteBoot() (rebooted bool, err error) {
	var was bootFile
	now := bootFile{bootID()}
	if _, err := s.load(bootName, &was); errors.Is(err, errDamaged) {
		return true, s.store(bootName, now) // services that may not run are stopped once more
	} else if err != nil {
		return false, err
	}
	if was == now {
		return false, nil
	}
	return was.ID != "", s.store(bootName, now)
}
