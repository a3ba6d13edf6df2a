package watch

import "strings"

// Unseen is a file that can change now without an event.
type Unseen struct {
	Tree int
	// Path in the tree; "" if only the object is known: the process has it by a name
	// outside the tree (a hard link) or in another mount namespace (a container), and
	// it may or may not have a name in the tree too.
	Path string
	Ino  uint64
	PID  int    // a process that can do so
	Comm string // its name, for messages
	// AIO says that the process has the file open for writing and an aio context
	// (io_submit); else it has a writable shared mapping.
	AIO bool
}

// Report is what [Invisible] found.
type Report struct {
	Files []Unseen // each file once, sorted by tree, path and inode number
	// Incomplete counts the processes that could not be looked into; the report is
	// complete if it is 0. Reading other users' processes takes CAP_SYS_PTRACE.
	Incomplete int
}

// isShm reports whether a path is the shared-memory index of a SQLite database.
// It is rebuilt from the write-ahead log beside it, and holds nothing to keep.
func isShm(path string, exists func(string) bool) bool {
	base, ok := strings.CutSuffix(path, "-shm")
	return ok && (exists(base+"-wal") || exists(base))
}
