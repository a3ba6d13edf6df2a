package watch

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// markTopLevel marks the file system of a tree in a btrfs subvolume through a
// mount of its top level, if there is one. Events then carry the top level's id.
func markTopLevel(fd int, r *root) error {
	mounts, err := readMounts()
	if err != nil {
		return err
	}
	if own, ok := mountOf(r.path, mounts); ok && own.kind == "btrfs" {
		for _, m := range mounts {
			if m.kind != own.kind || m.major != own.major || m.minor != own.minor || m.root != "/" {
				continue
			}
			if r.markAt(fd, m.point) == nil {
				return nil
			}
		}
	}
	return fmt.Errorf("it is a subvolume, and the top level of its file system is not mounted: %w", unix.EXDEV)
}

func (r *root) markAt(fd int, point string) error {
	at, err := unix.Open(point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(at) }()
	if err := markFileSystem(fd, at); err != nil {
		return err
	}
	r.fsid, err = fsidOf(at)
	return err
}
