package pairtest

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

func (c *check) readFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var w, sub, file int
		var op int64
		if e.IsDir() {
			if n, _ := fmt.Sscanf(rel, "w%d", &w); n == 1 && w < c.demand.First {
				return filepath.SkipDir
			}
			return nil
		}
		name, part := strings.CutSuffix(rel, unfinished)
		if n, _ := fmt.Sscanf(name, "w%d/%d/%d.%d", &w, &sub, &op, &file); n != 4 || fileName(w, op, file) != name {
			return nil // not a writer's
		}
		c.files++
		if t := c.of(w).of(op); part {
			t.parts++
		} else {
			t.files[file], err = c.digest(path, e)
		}
		return err
	})
}

// digest returns that of a file's content, without reading it where it is known.
func (c *check) digest(path string, e fs.DirEntry) (digest [sha256.Size]byte, err error) {
	info, err := e.Info()
	if err != nil {
		return digest, err
	}
	st := info.Sys().(*syscall.Stat_t)
	now := known{inode: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
	if was, ok := c.before.files[path]; ok {
		if now.digest = was.digest; now == was {
			c.after.files[path] = now
			return now.digest, nil
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return digest, err
	}
	c.read++
	now.digest = sha256.Sum256(content)
	c.after.files[path] = now
	return now.digest, nil
}

// expected returns what was drawn for an operation.
func (c *check) expected(writer int, number int64) *expected {
	key := [2]int64{int64(writer), number}
	x := c.after.drawn[key]
	if x == nil {
		if x = c.before.drawn[key]; x == nil {
			o := c.draw.operation(writer, number)
			x = &expected{rows: o.rows(), remove: o.remove, rowsFirst: o.rowsFirst}
		}
		c.after.drawn[key] = x
	}
	return x
}
