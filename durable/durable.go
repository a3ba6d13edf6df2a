// Package durable replaces small files so that a crash leaves either the old or
// the new content. It stands beside the data's way.
//
// After WriteFile returned nil the new content survives a power loss, as far as
// the disk tells the truth about its cache: the temporary file is synced before the
// rename and the directory after it (rename(2), fsync(2)). A crash in between can
// leave a file named ".NAME.tmp-…" behind, which the next call removes.
//
// What is damaged isn't deleted: SetAside gives it another name.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// WriteFile makes data the content of the file at path, with permissions mode.
// Two calls on one path must not run at once.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	prefix := "." + name + ".tmp-"
	leftovers, err := filepath.Glob(filepath.Join(dir, prefix+"*"))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	for _, old := range leftovers {
		os.Remove(old)
	}
	temp, err := os.CreateTemp(dir, prefix+"*")
	if err != nil {
		return err
	}
	if err := fill(temp, data, mode); err != nil {
		os.Remove(temp.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		os.Remove(temp.Name())
		return err
	}
	return SyncDir(dir)
}

// Damaged is what [SetAside] puts behind a name.
const Damaged = ".damaged"

// SetAside renames the file or directory at path, durably, and returns its new path.
// What was set aside there before is removed: it is of an earlier damage.
func SetAside(path string) (kept string, err error) {
	kept = filepath.Clean(path) + Damaged
	if err := os.RemoveAll(kept); err != nil {
		return "", fmt.Errorf("set %s aside: %w", path, err)
	}
	if err := os.Rename(path, kept); err != nil {
		return "", fmt.Errorf("set %s aside: %w", path, err)
	}
	return kept, SyncDir(filepath.Dir(kept))
}

func fill(f *os.File, data []byte, mode os.FileMode) error {
	_, err := f.Write(data)
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
