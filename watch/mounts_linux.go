package watch

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// mount is one line of /proc/self/mountinfo.
type mount struct {
	major, minor uint64 // of the superblock: on btrfs st_dev is another number
	root, point  string
	kind, source string
}

func readMounts() ([]mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var all []mount
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if m, ok := parseMount(lines.Text()); ok {
			all = append(all, m)
		}
	}
	return all, lines.Err()
}

// parseMount reads a line as proc_pid_mountinfo(5) has it:
// id parent major:minor root point options… - type source super-options.
func parseMount(line string) (m mount, ok bool) {
	fields := strings.Fields(line)
	dash := 5
	for dash < len(fields) && fields[dash] != "-" {
		dash++
	}
	if dash+2 >= len(fields) {
		return m, false
	}
	major, minor, _ := strings.Cut(fields[2], ":")
	var err1, err2 error
	m.major, err1 = strconv.ParseUint(major, 10, 32)
	m.minor, err2 = strconv.ParseUint(minor, 10, 32)
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	m.root, m.point = unescape.Replace(fields[3]), unescape.Replace(fields[4])
	m.kind, m.source = fields[dash+1], fields[dash+2]
	return m, err1 == nil && err2 == nil
}

// mountOf returns the mount that path lies on: the last of those with the
// longest mount point, as later ones cover earlier ones.
func mountOf(path string, all []mount) (found mount, ok bool) {
	for _, m := range all {
		if _, in := below(path, m.point); in && len(m.point) >= len(found.point) {
			found, ok = m, true
		}
	}
	return found, ok
}
