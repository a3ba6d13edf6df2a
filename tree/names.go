package tree

import (
	"fmt"
	"strings"

	"repld/change"
)

// OwnName is the name at the root of a tree that belongs to repld.
const OwnName = ".repld"

// IsOwn reports whether the path, relative to a tree's root, is repld's own
// directory or lies in it. Such paths are never listed, watched or replicated.
func IsOwn(path string) bool { return change.Within(path, OwnName) }

// SkipShm reports whether name is the shared-memory index of an SQLite database
// ("X-shm" where "X-wal" or "X" exists beside it). It is written through a
// mapping, without events, means nothing to another machine, and SQLite rebuilds
// it from the write-ahead log (sqlite.org/walformat.html); so it isn't replicated.
// exists is asked for names in the same directory.
func SkipShm(name string, exists func(name string) bool) bool {
	base, ok := strings.CutSuffix(name, "-shm")
	return ok && base != "" && (exists(base+"-wal") || exists(base))
}

// checkPath refuses what is not a path of package change.
func checkPath(path string) error {
	for rest := path; rest != ""; {
		name, after, more := strings.Cut(rest, "/")
		if err := change.CheckName(name); err != nil {
			return fmt.Errorf("%w: %w", ErrBadPath, err)
		}
		if more && after == "" {
			return fmt.Errorf("%w: it ends in a slash", ErrBadPath)
		}
		rest = after
	}
	return nil
}
