package preflight

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"repld/config"
	"repld/tree"
)

// place is a directory as the kernel sees it, without symbolic links.
type place struct {
	key   string
	what  string // "the tree sounz/data"
	real  string
	group string // of a tree or its staging directory
	tree  string
	id    string // of a tree's root
}

// state checks that the state directory can be used, or made.
func (k *check) state() {
	const what = "the state directory "
	path := k.config.State
	resolved, err := resolve(path)
	if err != nil {
		k.failed("state", what+path, err)
		return
	}
	k.places = append(k.places, place{key: "state", what: what + path, real: resolved})
	root, err := tree.Open(path, tree.Options{})
	switch {
	case err == nil:
		defer root.Close()
		if err := unix.Access(path, unix.W_OK); err != nil {
			k.wrong("state", k.asUser(), "%s: %v", what+path, err)
		}
		k.space(what+path, root)
	case errors.Is(err, fs.ErrNotExist):
		if err := writable(parentOf(resolved)); err != nil {
			k.wrong("state", k.asUser(), "%s is missing and can't be made in %s: %v", what+path, parentOf(resolved), err)
		}
	case errors.Is(err, tree.ErrNotDirectory):
		k.wrong("state", "", "%s: %v", what+path, tree.ErrNotDirectory)
	default:
		k.failed("state", what+path, err)
	}
}

// ofService reports whether a directory that isn't ours is the service's, to whom the
// state directory belongs: root checks, and another user runs.
func (k *check) ofService(path string) bool {
	var own, state unix.Stat_t
	return os.Geteuid() == 0 && unix.Lstat(path, &own) == nil && unix.Stat(k.config.State, &state) == nil && own.Uid == state.Uid
}

// control checks that the control socket can be made.
func (k *check) control() {
	path := k.config.Control
	dir, err := resolve(filepath.Dir(path))
	if err == nil {
		var st os.FileInfo
		if st, err = os.Stat(parentOrSelf(dir)); err == nil && !st.IsDir() {
			err = unix.ENOTDIR
		}
	}
	if err == nil {
		err = writable(parentOrSelf(dir))
	}
	if err != nil {
		k.wrong("control", k.asUser(), "the control socket %s can't be made: %s", path, cause(err))
		return
	}
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() != fs.ModeSocket {
		k.wrong("control", "move it away, or name another path", "the control socket %s: found something else there", path)
	}
}

// trees checks each tree for what this node does with it.
func (k *check) trees() {
	for _, g := range k.config.Groups {
		for _, t := range g.Trees {
			k.tree(g, t)
		}
	}
}

func (k *check) tree(g config.Group, t config.Tree) {
	key := "groups." + g.Name + ".trees." + t.Name
	what := "the tree " + g.Name + "/" + t.Name + " at " + t.Path
	o := tree.Options{AllowShared: t.Watch == config.WatchPoll}
	root, err := tree.Open(t.Path, o)
	if err != nil {
		k.failed(key+".path", what, err)
		return
	}
	defer root.Close()
	p := place{key: key + ".path", what: what, group: g.Name, tree: t.Name, id: root.ID()}
	if p.real, err = filepath.EvalSymlinks(t.Path); err != nil {
		k.failed(p.key, what, err)
		return
	}
	k.places = append(k.places, p)
	if k.config.Designated == config.Primary {
		k.watched(key, what, t)
		return
	}
	k.space(what, root)
	own, err := tree.CheckVolume(t.Path, tree.VolumeOptions{Options: o, Staging: t.Staging})
	if err != nil && !(errors.Is(err, tree.ErrNotOurs) && k.ofService(own)) {
		if t.Staging != "" {
			key += ".staging"
		} else {
			key += ".path"
		}
		k.failed(key, what, err)
		return
	}
	if resolved, err := resolve(own); err == nil {
		k.places = append(k.places, place{key: key + ".staging", what: "the staging directory " + own + " of " + g.Name + "/" + t.Name,
			real: resolved, group: g.Name, tree: t.Name})
	}
}

// nested refuses what the paths of the file don't show: directories that are in
// one another, or the same, by way of symbolic links and mounts.
func (k *check) nested() {
	for i, p := range k.places {
		for _, q := range k.places[:i] {
			if p.group == q.group && p.tree == q.tree {
				continue // a tree and its own directory, which may be in it
			}
			in, out := p, q
			switch {
			case p.id != "" && p.id == q.id, p.real == q.real:
				k.wrong(p.key, "", "%s is the same directory as %s: want two", p.what, q.what)
				continue
			case config.Inside(p.real, q.real):
			case config.Inside(q.real, p.real):
				in, out = q, p
			default:
				continue
			}
			k.wrong(p.key, "", "%s, really %s, lies inside %s, really %s: want neither inside the other", in.what, in.real, out.what, out.real)
		}
	}
}

// space notes a disk on which less is free than is to be kept free.
func (k *check) space(what string, root *tree.Root) {
	free, size, err := root.Space()
	if want := k.config.DiskReserve.Of(size); err == nil && free < want {
		k.note("the disk of %s has %d MiB free, less than disk_reserve (%v), %d MiB", what, free>>20, k.config.DiskReserve, want>>20)
	}
}

// resolve resolves the symbolic links of a path whose last parts may be missing.
func resolve(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) || path == "/" {
		return resolved, err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", errors.New("it is a symbolic link that leads nowhere")
	}
	parent, err := resolve(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// parentOf returns the nearest directory above a path that exists.
func parentOf(path string) string { return parentOrSelf(filepath.Dir(path)) }

func parentOrSelf(path string) string {
	for {
		if _, err := os.Lstat(path); err == nil || path == "/" {
			return path
		}
		path = filepath.Dir(path)
	}
}

// writable reports why nothing can be made in a directory, or nil.
func writable(dir string) error {
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		return unix.ENOTDIR
	}
	if err == nil {
		err = unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	}
	return err
}
