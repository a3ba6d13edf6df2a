package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"
	"unicode/utf8"

	"repld/change"
	"repld/health"
	"repld/tree"
)

// salvaged is one line of a salvage manifest.
type salvaged struct {
	At     time.Time `json:"at"`
	Tree   string    `json:"tree"`
	Path   string    `json:"path"`               // where it was; not UTF-8: with replacement characters
	Raw    []byte    `json:"path_raw,omitempty"` // the path's bytes if they aren't UTF-8
	Kept   string    `json:"kept"`               // where it is, relative to the manifest
	Kind   string    `json:"kind"`
	Size   uint64    `json:"size"`
	Mtime  time.Time `json:"mtime"`
	Reason string    `json:"reason"`
}

const salvageManifest = "manifest.jsonl"

// reasonExcluded is why something is set aside that nobody did anything wrong with.
const reasonExcluded = "excluded, in a directory that vanishes"

// salvageTo returns the directory below own/salvage of a commit.
func salvageTo(c *commit) string {
	name := c.id.String()
	if c.repair {
		name += "-repair"
	}
	return salvageDir + "/" + name
}

// salvage moves an object out of the way, to be kept. path is where it is, or
// was, in the tree.
func (p *publisher) salvage(index uint8, at tree.Place, path string, st *change.Stat, reason string) error {
	dir := salvageTo(p.c)
	kept := "files/" + p.a.trees[index].Name
	if path == "" {
		return errors.New("the root of a tree can't be salvaged")
	}
	kept = change.Join(kept, path)
	fsys := p.fs(index)
	kept, err := makeDirs(fsys, dir, kept)
	if err != nil {
		return fmt.Errorf("salvage %q: %w", path, err)
	}
	line := salvaged{
		At: p.a.clock.Now(), Tree: p.a.trees[index].Name, Path: path, Kept: kept, Kind: st.Kind.String(),
		Size: st.Size, Mtime: st.Mtime.Time(), Reason: reason,
	}
	if !utf8.ValidString(path) {
		line.Raw = []byte(path)
	}
	if st.Kind == 0 {
		line.Kind = "socket"
	}
	if err := appendLine(fsys, dir+"/"+salvageManifest, &line); err != nil {
		return fmt.Errorf("salvage %q: %w", path, err)
	}
	if err := fsys.RenameNoReplace(at, tree.InOwn(change.Join(dir, kept))); err != nil {
		if vanished(err) {
			return nil
		}
		return fmt.Errorf("salvage %q: %w", path, err)
	}
	p.a.logger.Warn("set aside", "path", path, "kept", change.Join(dir, kept), "reason", reason)
	if !p.c.seed && reason != reasonExcluded {
		p.a.noteForeign(fmt.Sprintf("%q: %s; kept in salvage", path, reason))
	}
	return nil
}

// salvageOwn is salvage for what lies in the staging directory already.
func (p *publisher) salvageOwn(index uint8, at tree.Place, path, reason string) error {
	st, err := p.fs(index).Lstat(at)
	if err != nil {
		return ignoreVanished(err)
	}
	return p.salvage(index, at, path, &st, reason)
}

// makeDirs makes the directories of parent below own/dir and returns a path for
// kept that is free: what was salvaged earlier under the same name, or stands
// where a directory is needed now, stays where it is.
func makeDirs(fsys tree.FS, dir, kept string) (string, error) {
	if err := mkdirAll(fsys, dir); err != nil {
		return "", err
	}
	parent, name := change.Split(kept)
	for n := 1; ; n++ {
		err := mkdirAll(fsys, change.Join(dir, parent))
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.ENOTDIR) && !exists(err) || n > 100 {
			return "", err
		}
		parent = fmt.Sprintf("files-%d/%s", n, parent)
	}
	free := change.Join(parent, name)
	for n := 2; ; n++ {
		_, err := fsys.Lstat(tree.InOwn(change.Join(dir, free)))
		if vanished(err) {
			return free, nil
		}
		if err != nil {
			return "", err
		}
		suffix := fmt.Sprintf("~%d", n)
		free = change.Join(parent, name[:min(len(name), change.NameMax-len(suffix))]+suffix)
	}
}

// mkdirAll makes a directory in the own area with those above it.
func mkdirAll(fsys tree.FS, path string) error {
	st, err := fsys.Lstat(tree.InOwn(path))
	if err == nil {
		if st.Kind != change.KindDir {
			return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
		}
		return nil
	}
	if !vanished(err) {
		return err
	}
	if dir, _ := change.Split(path); dir != "" {
		if err := mkdirAll(fsys, dir); err != nil {
			return err
		}
	}
	if err := fsys.Mkdir(tree.InOwn(path)); err != nil && !exists(err) {
		return err
	}
	return nil
}

// appendLine appends a JSON line to a file in the own area.
func appendLine(fsys tree.FS, path string, line any) error {
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	f, err := fsys.OpenWrite(tree.InOwn(path))
	if vanished(err) {
		f, err = fsys.Create(tree.InOwn(path))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = f.WriteAt(append(b, '\n'), int64(st.Size))
	return err
}

// foreignFinds is what was found of somebody else's writing since the last time
// the operator looked.
type foreignFinds struct {
	count uint64
	first string
}

// noteForeign reports a find.
func (a *Applier) noteForeign(text string) {
	a.mu.Lock()
	if a.foreign.count == 0 {
		a.foreign.first = text
	}
	a.foreign.count++
	a.foreignTotal++
	f := a.foreign
	a.mu.Unlock()
	a.raiseForeign(f)
}

func (a *Applier) raiseForeign(f foreignFinds) {
	if f.count == 1 {
		a.raise(health.ForeignWrite, "the standby's tree was changed by somebody else: %s", f.first)
		return
	}
	a.raise(health.ForeignWrite, "the standby's tree was changed by somebody else in %d places, first %s", f.count, f.first)
}

// forgetForeign ends the condition: somebody looked, or all was verified.
func (a *Applier) forgetForeign() {
	a.mu.Lock()
	a.foreign = foreignFinds{}
	a.mu.Unlock()
	a.resolve(health.ForeignWrite)
}

// setSuspect has the tree verified and repaired before the next barrier.
func (a *Applier) setSuspect() {
	a.mu.Lock()
	a.suspicious = true
	a.mu.Unlock()
}
