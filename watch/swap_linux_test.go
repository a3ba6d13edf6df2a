package watch

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// TestDirectoryIsSwappedWhileWatched: between the look at a directory and its watch
// another one takes its place, and moves on to where no event tells of it. It stays
// watched, though the library has its watch under the first one's path.
func TestDirectoryIsSwappedWhileWatched(t *testing.T) {
	base := t.TempDir()
	root, outside := base+"/tree", base+"/outside"
	for _, d := range []string{root + "/other", outside + "/second", outside + "/new/x", outside + "/new/y"} {
		must(t, os.MkdirAll(d, 0o755))
	}
	first, moved := "", false
	w := settled(t, Options{Backend: Inotify, Trees: []Tree{{Path: root}}, hooks: hooks{addWatch: func(path string) error {
		if path != root+"/new/x" && path != root+"/new/y" || path == first {
			return nil
		}
		if first == "" {
			first = path
			// So many events that neither the library nor Run gets to those of the renames
			// before the directory is looked at at its last place.
			for i := range eventBuffer + 4*scanEvery {
				must(t, syscall.Mknod(fmt.Sprintf("%s/other/%d", root, i), syscall.S_IFREG|0o644, 0))
			}
			must(t, os.Rename(path, outside+"/first"))
			must(t, os.Rename(outside+"/second", path))
		} else if !moved {
			moved = true
			must(t, os.Rename(first, path+"/moved"))
		}
		return nil
	}}})
	must(t, os.Rename(outside+"/new", root+"/new"))
	for {
		if _, at := drain(t, w); !at.AddedWatches {
			break
		}
	}
	for _, dir := range []string{"new/x/moved", "new/y/moved"} {
		if _, err := os.Lstat(root + "/" + dir); err != nil {
			continue
		}
		write(t, root+"/"+dir+"/f", "")
		if set, _ := drain(t, w); !set.Covers(Key{Dir: dir, Name: "f"}) {
			t.Errorf("a new name in %s isn't told; all: %v", dir, list(set))
		}
		return
	}
	t.Error("the directory did not move")
}
