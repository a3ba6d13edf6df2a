package change

import (
	"fmt"
	"strings"
)

// NameMax is the longest name in bytes (limits.h, NAME_MAX).
const NameMax = 255

// CheckName reports what is wrong with name as the name of a directory entry:
// a name that passes can never lead out of its directory.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("empty name")
	case name == "." || name == "..":
		return fmt.Errorf("name %q is reserved", name)
	case len(name) > NameMax:
		return fmt.Errorf("name of %d bytes: the limit is %d", len(name), NameMax)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("name %q holds a slash or a zero byte", name)
	}
	return nil
}

// Paths are relative to a tree's root: names joined by '/', without a leading or
// trailing slash; "" is the root. They may be longer than PATH_MAX.

// Join appends name to the directory path dir.
func Join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// Split cuts path into its directory and its last name.
func Split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// Within reports whether path is dir or lies below it.
func Within(path, dir string) bool {
	return dir == "" || path == dir || strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}
