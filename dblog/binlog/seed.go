package binlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"repld/change"
)

// Backup is a backup that was taken. Its binary log position is at a boundary between
// transactions.
type Backup struct {
	Start change.StreamPosition // from where on the stream is kept
	End   change.StreamPosition // up to where it is: no gate may stand before it
}

// RestoreOptions say how a backup becomes a replica.
type RestoreOptions struct {
	Kind    Kind
	DataDir string // empty or not there; its parent must exist
	// UID and GID own what is written; -1 leaves it ours.
	UID, GID int
}

// Restore makes a data directory out of what [Source.Backup] wrote, and returns where it
// stands, as far as that shows: Start isn't set. On an error the directory is left as far
// as it came.
func Restore(ctx context.Context, r io.Reader, o RestoreOptions) (Backup, error) {
	var b Backup
	d, err := dialectOf(o.Kind)
	if err != nil {
		return b, err
	}
	if err := os.Mkdir(o.DataDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return b, err
	}
	entries, err := os.ReadDir(o.DataDir)
	if err != nil {
		return b, err
	}
	if len(entries) > 0 {
		return b, fmt.Errorf("the data directory %s has %q in it, want it empty: move what is there away", o.DataDir, entries[0].Name())
	}
	if b, err = d.restore(ctx, r, o); err != nil {
		return b, err
	}
	return b, hand(o)
}

// Backup makes a copy of the server, writes it to w, and returns where its stream begins,
// and, unless that shows when it is restored, where the copy ends. It must run on the
// server's machine and be allowed to read the data.
func (s *Source) Backup(ctx context.Context, w io.Writer) (Backup, error) {
	return s.dialect.backup(ctx, s, w)
}

// hand gives what was written to the server's user, durably.
func hand(o RestoreOptions) error {
	root, err := os.OpenRoot(o.DataDir)
	if err != nil {
		return err
	}
	defer root.Close()
	if o.UID >= 0 {
		var paths []string
		err := fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
			paths = append(paths, path)
			return err
		})
		if err != nil {
			return err
		}
		for _, path := range slices.Backward(paths) { // a directory after what is in it
			if err := root.Lchown(path, o.UID, o.GID); err != nil {
				return err
			}
		}
	}
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}
