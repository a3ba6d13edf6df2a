package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"
	"golang.org/x/sys/unix"

	"repld/control"
	"repld/durable"
	"repld/wire"
)

// stateDir is the directory of a node's own state, held by one process at a time:
//
//	lock          held with flock(2) while a daemon runs
//	node.yaml     what this directory was made for, see nodeFile
//	role.yaml     this node's role, see package role
//	boot.yaml     in which boot of the machine the daemon ran last
//	promoted.yaml at which barriers this node was promoted, see promotedFile
//	opening.yaml  what is to be opened after that, see openingFile
//	failovers/    what each failover gave up, see package role
//	key.pem       this node's key
//	peer.yaml     the paired peer, see peerFile
//	invites.yaml  invitations that are open
//	alerts.json   what each sink of alerts was told
//	events*.jsonl what happened
//	control.sock  the control socket
//	groups/NAME/  of a group: log/, catalog.db, roots.yaml (see rootsFile), common.yaml
//	              (see commonFile); while it sends cookies/; while it receives apply.db,
//	              and former.db until the base of the new primary is published;
//	              of its databases databases/NAME.yaml (see databaseFile), servers/NAME
//	              (what an engine knows of this node's server), while it receives
//	              spools/NAME and gates/NAME, while it sends windows/NAME
//	salvage/N/NAME/ of a group: log/, what was received and not applied when epoch N was
//	              made; salvage.json, what of epoch N only this node had
//
// The files that end in .yaml begin with a line that holds the digest of the rest, see seal.
type stateDir struct {
	path string
	lock *os.File
}

// nodeFile says which role, and in quick mode which tree, a state directory belongs to. A directory
// that was made for one and has been paired is refused for another, so that two
// commands swapped between machines change nothing.
type nodeFile struct {
	Role Role   `yaml:"role"`
	Dir  string `yaml:"dir,omitempty"`
	Name string `yaml:"name"`
	// Roles says that role.yaml was here: without it, it is lost.
	Roles bool `yaml:"roles,omitempty"`
}

// nodeName is the name of the nodeFile.
const nodeName = "node.yaml"

func (f nodeFile) String() string {
	if f.Dir == "" {
		return fmt.Sprintf("repld run as a %s", f.Role)
	}
	return fmt.Sprintf("repld %s %s", f.Role, f.Dir)
}

// peerFile is the paired peer.
type peerFile struct {
	Name    string `yaml:"name"`
	Key     string `yaml:"key"`
	Address string `yaml:"address,omitempty"`
}

// openState locks the state directory at path, and makes it if it is missing.
func openState(path string) (*stateDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, control.Errorf(control.ExitFailed, "state directory %s: %w", path, err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, control.Errorf(control.ExitFailed, "state directory %s: %w", path, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, control.Errorf(control.ExitRefused, "state directory %s is in use by another repld", path).
				WithHint("stop that daemon, or give this one a state directory of its own with --state")
		}
		return nil, control.Errorf(control.ExitFailed, "lock state directory %s: %w", path, err)
	}
	return &stateDir{path: path, lock: lock}, nil
}

func (s *stateDir) close() { s.lock.Close() }

func (s *stateDir) file(name string) string { return filepath.Join(s.path, name) }

// groupFile returns the path of a group's file below the state directory.
func groupFile(group, name string) string { return filepath.Join("groups", group, name) }

// group returns the directory of a group, made if it is missing.
func (s *stateDir) group(name string) (string, error) {
	dir := s.file(groupFile(name, ""))
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
		return "", control.Errorf(control.ExitFailed, "state directory: %w", err)
	}
	return dir, nil
}

// claim notes what the directory is for, or checks that it is for that.
func (s *stateDir) claim(want nodeFile) error {
	var found nodeFile
	ok, err := s.load(nodeName, &found)
	if err != nil {
		return err
	}
	if !ok {
		return s.store(nodeName, want)
	}
	if found.Role == want.Role && found.Dir == want.Dir {
		return nil
	}
	if _, _, paired, err := s.peer(); err != nil {
		return err
	} else if !paired {
		// What never had a peer, because the first start was refused for example,
		// holds nothing worth keeping.
		return s.reclaim(want)
	}
	e := control.Errorf(control.ExitRefused, "the state directory %s belongs to %s, not to %s", s.path, found, want)
	return e.WithState(string(found.Role)).WithHint("if the two commands were swapped between the machines, run each where it ran before; " +
		"to start anew with other roles, give another --state")
}

// mark changes the note of what the directory is for.
func (s *stateDir) mark(change func(*nodeFile)) error {
	var f nodeFile
	if _, err := s.load(nodeName, &f); err != nil {
		return err
	}
	change(&f)
	return s.store(nodeName, f)
}

// reclaim makes the directory one for another role or tree.
func (s *stateDir) reclaim(want nodeFile) error {
	for _, name := range []string{"groups", "invites.yaml", roleName} {
		if err := os.RemoveAll(s.file(name)); err != nil {
			return control.Errorf(control.ExitFailed, "state directory: %w", err)
		}
	}
	return s.store(nodeName, want)
}

// load reads a YAML file; ok is false if there is none.
func (s *stateDir) load(name string, v any) (ok bool, err error) {
	data, err := os.ReadFile(s.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		data, err = unseal(data)
	}
	if err == nil {
		err = yaml.UnmarshalWithOptions(data, v, yaml.Strict())
	}
	if err != nil {
		return false, control.Errorf(control.ExitFailed, "%s: %w", s.file(name), err).WithHint(sealHint)
	}
	return true, nil
}

// store replaces a YAML file durably.
func (s *stateDir) store(name string, v any) error {
	data, err := yaml.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := durable.WriteFile(s.file(name), seal(data), 0o600); err != nil {
		return control.Errorf(control.ExitFailed, "state directory: %w", err)
	}
	return nil
}

// peer returns the paired peer and its key, false if there is none.
func (s *stateDir) peer() (peerFile, wire.Fingerprint, bool, error) {
	var p peerFile
	ok, err := s.load("peer.yaml", &p)
	if !ok || err != nil {
		return p, wire.Fingerprint{}, false, err
	}
	key, err := wire.ParseFingerprint(p.Key)
	if err != nil {
		return p, key, false, control.Errorf(control.ExitFailed, "%s: %w", s.file("peer.yaml"), err)
	}
	return p, key, true, nil
}

// checkApart refuses a state directory inside the tree, and the other way round.
func checkApart(state, dir string) error {
	s, err := resolveMissing(state)
	if err != nil {
		return control.Errorf(control.ExitUsage, "state directory %s: %w", state, err)
	}
	d, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return control.Errorf(control.ExitUsage, "%s: %w", dir, err)
	}
	inside := func(inner, outer string) bool {
		rel, err := filepath.Rel(outer, inner)
		return err == nil && filepath.IsLocal(rel)
	}
	switch {
	case inside(s, d):
		return control.Errorf(control.ExitUsage, "the state directory %s lies inside the replicated tree %s", state, dir).
			WithHint("give a state directory outside of the tree with --state")
	case inside(d, s):
		return control.Errorf(control.ExitUsage, "the replicated tree %s lies inside the state directory %s", dir, state).
			WithHint("give another state directory with --state")
	}
	return nil
}

// resolveMissing resolves the symbolic links in path, whose last parts need not
// exist yet.
func resolveMissing(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return resolved, err
	}
	dir, base := filepath.Split(filepath.Clean(path))
	if base == "" {
		return path, nil
	}
	parent, err := resolveMissing(filepath.Clean(dir))
	return filepath.Join(parent, base), err
}
