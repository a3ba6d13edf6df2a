package watch

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// markTopLevel marks the file system of a tree in a btrfs subvolume through a
// mount of its top level, if there is one. Events then carry the top level's id.
func markTopLevel(fd int, r *root) error {
	var st unix.Stat_t
	if err := unix.Fstat(r.fd, &st); err != nil {
		return err
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer func() { _ = mounts.Close() }()
	source := ""
	var tops [][2]string // source, mount point
	longest := -1
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		// proc_pid_mountinfo(5): id parent major:minor root point options… - type source super
		fields := strings.Fields(lines.Text())
		kind := 0
		for kind < len(fields) && fields[kind] != "-" {
			kind++
		}
		if kind+2 >= len(fields) || fields[kind+1] != "btrfs" {
			continue
		}
		point := unescape(fields[4])
		if _, ok := below(r.path, point); ok && len(point) > longest {
			source, longest = fields[kind+2], len(point)
		}
		if fields[3] == "/" {
			tops = append(tops, [2]string{fields[kind+2], point})
		}
	}
	for _, top := range tops {
		if top[0] != source {
			continue
		}
		at, err := unix.Open(top[1], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		err = markFileSystem(fd, at)
		if err == nil {
			r.fsid, err = fsidOf(at)
		}
		_ = unix.Close(at)
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("it is a btrfs subvolume, and its top level is not mounted: %w", unix.EXDEV)
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
