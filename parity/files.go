package parity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"
)

func (f *Facts) files(ctx context.Context, o Options) {
	for _, pattern := range o.Files {
		base, rest := doublestar.SplitPattern(strings.TrimPrefix(pattern, "/"))
		dir := filepath.Join(o.Root, base)
		// What is absent on one node must show as a difference, so it is no error.
		err := doublestar.GlobWalk(os.DirFS(dir), rest, func(path string, d fs.DirEntry) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if len(f.Files) >= o.maxFiles {
				return fmt.Errorf("there are more than %d files", o.maxFiles)
			}
			f.file(o.Root, "/"+filepath.Join(base, path), d)
			return nil
		}, doublestar.WithNoFollow(), doublestar.WithFailOnIOErrors())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.unknown("pattern "+pattern, err)
		}
	}
}

func (f *Facts) file(root, path string, d fs.DirEntry) {
	var text string
	var err error
	switch full := filepath.Join(root, path); {
	case d.Type().IsRegular():
		text, err = digest(full)
	case d.Type()&fs.ModeSymlink != 0:
		if text, err = os.Readlink(full); err == nil {
			text = "link:" + short(text)
		}
	default:
		return // directories, sockets: nothing to compare
	}
	if err != nil {
		f.unknown("file "+path, err)
		return
	}
	if f.Files == nil {
		f.Files = map[string]string{}
	}
	f.Files[path] = text
}

func digest(path string) (string, error) {
	// Whatever has taken the file's place meanwhile is not waited for, nor followed.
	in, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer in.Close()
	if s, err := in.Stat(); err != nil || !s.Mode().IsRegular() {
		return "", errors.Join(err, errors.New("it is not a file any more"))
	}
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(in, MaxFileSize+1))
	if err != nil {
		return "", err
	}
	if n > MaxFileSize {
		return "", fmt.Errorf("it has more than %d bytes, the most that is read", MaxFileSize)
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}
