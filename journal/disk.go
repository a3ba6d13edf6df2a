package journal

import (
	"io"
	"os"
	"path/filepath"
)

// Disk is the directory that holds a log. Names are plain file names. A Disk is
// safe for concurrent use. Tests put a faulty or forgetful one in its place.
type Disk interface {
	// Create makes an empty file, in place of one that has the name.
	Create(name string) (File, error)
	// Open opens a file for reading and writing.
	Open(name string) (File, error)
	Remove(name string) error
	// Rename replaces what is called to. Files that are open stay usable.
	Rename(from, to string) error
	// List returns the names in the directory, in any order.
	List() ([]string, error)
	// SyncDir returns when every Create, Remove and Rename before is durable.
	SyncDir() error
}

// File is a file of a [Disk]; safe for concurrent use.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Sync returns when every write and Truncate before is durable.
	Sync() error
}

// Directory returns the directory of that path as a Disk.
func Directory(path string) Disk { return dirDisk(path) }

// dirDisk is a directory of the operating system.
type dirDisk string

func (d dirDisk) path(name string) string { return filepath.Join(string(d), name) }

func (d dirDisk) Create(name string) (File, error) {
	return openFile(d.path(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func (d dirDisk) Open(name string) (File, error) { return openFile(d.path(name), os.O_RDWR) }

func (d dirDisk) Remove(name string) error { return os.Remove(d.path(name)) }

func (d dirDisk) Rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }

func (d dirDisk) List() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (d dirDisk) SyncDir() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

type osFile struct{ *os.File }

func openFile(path string, flag int) (File, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
