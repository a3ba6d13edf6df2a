package binlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

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
	DataDir string // empty or not there; its parent must exist
	// UID and GID own what is written; -1 leaves it ours.
	UID, GID int
}

// Programs of MariaDB, by their names since 10.5 (Debian: mariadb-backup).
const (
	backupProgram = "mariadb-backup"
	streamProgram = "mbstream"
)

// Restore makes a data directory out of what [Source.Backup] wrote, and returns where it
// stands: Start isn't set. On an error the directory is left as far as it came.
func Restore(ctx context.Context, r io.Reader, o RestoreOptions) (Backup, error) {
	var b Backup
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
	if err := run(ctx, r, nil, streamProgram, "-x", "-C", o.DataDir); err != nil {
		return b, fmt.Errorf("unpack the backup: %w", err)
	}
	if err := run(ctx, nil, nil, backupProgram, "--no-defaults", "--prepare", "--target-dir="+o.DataDir); err != nil {
		return b, fmt.Errorf("prepare the backup: %w", err)
	}
	if b.End, err = backupEnd(o.DataDir); err != nil {
		return b, err
	}
	return b, hand(o)
}

// backupEnd reads where a backup ends from the file that the program left: name,
// position and GTID of the binary log, separated by tabs.
func backupEnd(dir string) (change.StreamPosition, error) {
	var at change.StreamPosition
	text, err := os.ReadFile(filepath.Join(dir, "xtrabackup_binlog_info"))
	if errors.Is(err, fs.ErrNotExist) {
		text, err = os.ReadFile(filepath.Join(dir, "mariadb_backup_binlog_info")) // since 11.1
	}
	if err != nil {
		return at, fmt.Errorf("the backup doesn't say where it ends: %w", err)
	}
	f := strings.Fields(string(text))
	if len(f) < 2 {
		return at, fmt.Errorf("the backup says that it ends at %q, want a binary log and a position", text)
	}
	if at.Chapter, err = fileNumber(f[0]); err != nil {
		return at, err
	}
	at.Offset, err = strconv.ParseUint(f[1], 10, 64)
	return at, err
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

// maxTold bounds what is kept of a program's messages, in bytes.
const maxTold = 4 << 10

// tail keeps the last bytes that are written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 2*maxTold {
		t.b = append(t.b[:0], t.b[len(t.b)-maxTold:]...)
	}
	return len(p), nil
}

// run runs a program. What it says comes with its error only.
func run(ctx context.Context, in io.Reader, out io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	var said tail
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &said
	if out == nil {
		cmd.Stdout = &said
	}
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return setupError{fmt.Sprintf("the program %s isn't there, want it installed (Debian: mariadb-backup)", name)}
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(said.b[max(0, len(said.b)-1000):]))
	}
	return nil
}
