package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// smallTree makes copies of a directory of small files.
func smallTree(o options, src string) (string, error) {
	total := 0
	for i := range o.copies {
		n, err := copyTree(o.files, filepath.Join(src, copyName(i)))
		if err != nil {
			return "", err
		}
		total += n
	}
	return fmt.Sprintf("%d small files", total), nil
}

func copyName(i int) string { return fmt.Sprintf("copy%d", i) }

// copyTree copies directories and regular files with their times, as `cp -a`.
func copyTree(from, to string) (files int, err error) {
	type dir struct {
		path string
		at   time.Time
	}
	var dirs []dir
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			dirs = append(dirs, dir{target, info.ModTime()})
			return os.Mkdir(target, 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		files++
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, content, info.Mode().Perm()); err != nil {
			return err
		}
		return os.Chtimes(target, info.ModTime(), info.ModTime())
	})
	for _, d := range dirs {
		if err == nil {
			err = os.Chtimes(d.path, d.at, d.at)
		}
	}
	return files, err
}

// changeOne rewrites one file of the second copy in place.
func changeOne(o options, src string, n int) error {
	var name string
	err := filepath.WalkDir(filepath.Join(src, copyName(1)), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			name = path
			return fs.SkipAll
		}
		return err
	})
	if err != nil {
		return err
	}
	return os.WriteFile(name, fmt.Appendf(nil, "changed for the %dth time at %s\n", n, time.Now()), 0o644)
}

func renameDir(o options, src string, _ int) error {
	return os.Rename(filepath.Join(src, copyName(o.copies-1)), filepath.Join(src, "renamed"))
}

func copyDir(o options, src string, _ int) error {
	_, err := copyTree(filepath.Join(src, copyName(0)), filepath.Join(src, "another"))
	return err
}

// bigName is the large file.
const bigName = "large"

// bigFile makes a file that doesn't compress.
func bigFile(o options, src string) (string, error) {
	f, err := os.Create(filepath.Join(src, bigName))
	if err != nil {
		return "", err
	}
	defer f.Close()
	var seed [32]byte
	noise := rand.NewChaCha8(seed)
	if _, err := io.CopyBuffer(f, io.LimitReader(noise, o.big), make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return fmt.Sprintf("one incompressible file of %d MiB", o.big>>20), f.Close()
}

// overwrite replaces 4 KiB in the middle, at a multiple of 4 KiB.
func overwrite(o options, src string, n int) error {
	f, err := os.OpenFile(filepath.Join(src, bigName), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	block := bytes.Repeat([]byte{byte(n), 0xa5, 0x5a}, 4096/3+1)[:4096]
	if _, err := f.WriteAt(block, o.big/2&^4095); err != nil {
		return err
	}
	return f.Close()
}

// insert writes a new file with 1,000 bytes more at its front and renames it over
// the old one, as editors do.
func insert(_ options, src string, n int) error {
	old := filepath.Join(src, bigName)
	from, err := os.Open(old)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(old + ".new")
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := to.Write(bytes.Repeat([]byte{byte(n)}, 1000)); err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	if err := to.Close(); err != nil {
		return err
	}
	return os.Rename(old+".new", old)
}
