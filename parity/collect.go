package parity

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"repld/program"
)

// Options say what is collected.
type Options struct {
	Node string
	// Files are doublestar patterns of absolute paths.
	Files []string
	// Commands are programs with their arguments.
	Commands [][]string
	// Timeout is what each command gets; 0 = 10 s.
	Timeout time.Duration
	// Disks are directories by what lies there; the sizes of their file systems count.
	Disks map[string]string
	// Databases are parameters by name, by "GROUP/DATABASE"; the caller asks for them.
	Databases map[string]map[string]string
	// Silent is why something of them could not be found out, by what: "database
	// GROUP/DATABASE", "setting NAME".
	Silent map[string]error
	// Root is the directory that is taken for "/" when files are read, "" = "/".
	Root string

	maxFiles int // 0 = MaxFiles
}

const defaultTimeout = 10 * time.Second

// Collect finds out what it can about this machine. It takes as long as the commands and the
// files do, and returns early when ctx ends: what is missing then is unknown.
func Collect(ctx context.Context, o Options) *Facts {
	f := &Facts{Format: Format, Node: o.Node}
	if o.Root == "" {
		o.Root = "/"
	}
	if o.maxFiles == 0 {
		o.maxFiles = MaxFiles
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	f.machine(o)
	f.packages(ctx, o)
	f.files(ctx, o)
	for _, args := range o.Commands {
		f.command(ctx, args, o.Timeout)
	}
	for name, parameters := range o.Databases {
		f.database(name, parameters)
	}
	for name, err := range o.Silent {
		f.unknown(name, err)
	}
	return f
}

func (f *Facts) machine(o Options) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		f.unknown("kernel", err)
	} else {
		f.Kernel, f.Architecture = unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
	}
	var err error
	if f.Distribution, err = distribution(o.Root); err != nil {
		f.unknown("distribution", err)
	}
	if f.CPUs, err = cpus(filepath.Join(o.Root, "sys/devices/system/cpu/online")); err != nil {
		f.unknown("cpus", err)
	}
	if f.Memory, err = memory(filepath.Join(o.Root, "proc/meminfo")); err != nil {
		f.unknown("memory", err)
	}
	for what, dir := range o.Disks {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			f.unknown("disk "+what, fmt.Errorf("%s: %w", dir, err))
			continue
		}
		if f.Disks == nil {
			f.Disks = map[string]uint64{}
		}
		f.Disks[what] = s.Blocks * uint64(s.Frsize)
	}
}

// distribution reads PRETTY_NAME. (os-release(5))
func distribution(root string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, "etc/os-release"))
	if os.IsNotExist(err) {
		data, err = os.ReadFile(filepath.Join(root, "usr/lib/os-release"))
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return short(strings.Trim(name, `"'`)), nil
		}
	}
	return "", errors.New("os-release has no PRETTY_NAME")
}

// cpus counts a list such as "0-3,6". (Linux, Documentation/admin-guide/cputopology.rst)
func cpus(path string) (int, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n := 0
	for part := range strings.SplitSeq(strings.TrimSpace(string(data)), ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(first)
		b := a
		if err == nil && isRange {
			b, err = strconv.Atoi(last)
		}
		if err != nil || b < a {
			return 0, fmt.Errorf("%s: found %q, want a list of numbers", path, part)
		}
		n += b - a + 1
	}
	return n, nil
}

// memory reads MemTotal. (proc_meminfo(5))
func memory(path string) (uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseUint(fields[1], 10, 44)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no MemTotal", path)
}

// managers list what is installed, one "NAME TAB VERSION" a line.
var managers = [][]string{
	// Only what is installed ("ii"): what was removed but left its configuration doesn't count.
	{"dpkg-query", "-W", "-f", "${db:Status-Abbrev}${binary:Package}\t${Version}\n"},
	{"rpm", "-qa", "--qf", "ii %{NAME}.%{ARCH}\t%{VERSION}-%{RELEASE}\n"},
}

func (f *Facts) packages(ctx context.Context, o Options) {
	for _, args := range managers {
		path, err := exec.LookPath(args[0])
		if err != nil {
			continue
		}
		// A system may have the tools of another one, with an empty list.
		found, err := list(ctx, path, args[1:])
		switch {
		case err != nil:
			f.unknown("packages", fmt.Errorf("%s: %w", args[0], err))
			return
		case len(found) > 0:
			f.Packages = found
			return
		}
	}
	f.unknown("packages", errors.New("found neither dpkg-query nor rpm with packages"))
}

// list reads all of what a package manager writes; package program keeps the end only.
func list(ctx context.Context, path string, args []string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := program.Start(cmd); err != nil {
		return nil, err
	}
	found := map[string]string{}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), "ii ")
		name, version, isPackage := strings.Cut(text, "\t")
		if !ok || !isPackage || name == "" {
			continue
		}
		if other, ok := found[name]; ok { // several versions of a kernel
			version = other + ", " + version
		}
		if found[name] = short(version); len(found) > MaxPackages {
			cancel()
			_ = cmd.Wait() // it was killed
			return nil, fmt.Errorf("found more than %d packages", MaxPackages)
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		return nil, err
	}
	return found, nil
}

func (f *Facts) command(ctx context.Context, args []string, timeout time.Duration) {
	name := strings.Join(args, " ")
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	text, err := program.Run(ctx, program.Options{Args: args, Env: []string{"LC_ALL=C"}, DropCapabilities: true})
	out := Output{Text: strings.TrimSpace(text)}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		out.Exit, err = exit.ExitCode(), nil
	}
	if err != nil {
		f.unknown("command "+name, err)
		return
	}
	if f.Commands == nil {
		f.Commands = map[string]Output{}
	}
	f.Commands[name] = out
}

func (f *Facts) database(name string, parameters map[string]string) {
	if len(parameters) > MaxParameters {
		f.unknown("database "+name, fmt.Errorf("found %d parameters, want at most %d", len(parameters), MaxParameters))
		return
	}
	kept := make(map[string]string, len(parameters))
	for k, v := range parameters {
		kept[k] = short(v)
	}
	if f.Databases == nil {
		f.Databases = map[string]map[string]string{}
	}
	f.Databases[name] = kept
}
