package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// results collects the samples.
type results struct {
	started time.Time
	options options
	cases   []*row
}

// row is one case with all samples of either program.
type row struct {
	Sequence string              `json:"sequence"`
	Case     string              `json:"case"`
	Samples  map[string][]sample `json:"samples"` // by program, in the order they were taken
}

func (r *results) add(sequence, name, program string, s sample) {
	i := slices.IndexFunc(r.cases, func(c *row) bool { return c.Sequence == sequence && c.Case == name })
	if i < 0 {
		i = len(r.cases)
		r.cases = append(r.cases, &row{Sequence: sequence, Case: name, Samples: map[string][]sample{}})
	}
	r.cases[i].Samples[program] = append(r.cases[i].Samples[program], s)
}

func (r *results) rows() []*row { return r.cases }

// median is the sample with the median time, which is the faster of the two in the
// middle of an even number.
func median(samples []sample) (sample, bool) {
	if len(samples) == 0 {
		return sample{}, false
	}
	sorted := slices.SortedFunc(slices.Values(samples), func(a, b sample) int { return cmp.Compare(a.Seconds, b.Seconds) })
	return sorted[(len(sorted)-1)/2], true
}

// markdown writes the machine and a table.
func (r *results) markdown(out io.Writer) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "%s; %s\n\n", r.started.UTC().Format("2006-01-02 15:04 MST"), machine(r.options.work))
	fmt.Fprintln(w, "| case | rsync s | repld s | repld ÷ rsync | wire rsync | wire repld | CPU s rsync | CPU s repld | peak MiB rsync send / receive | peak MiB repld primary / standby | journals |")
	fmt.Fprintln(w, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, c := range r.cases {
		if c.Sequence == "wal" {
			continue
		}
		peer, hasPeer := median(c.Samples["rsync"])
		own, hasOwn := median(c.Samples["repld"])
		cell := func(has bool, format string, args ...any) string {
			if !has {
				return "–"
			}
			return fmt.Sprintf(format, args...)
		}
		fmt.Fprintln(w, "| "+strings.Join([]string{
			c.Case,
			cell(hasPeer, "%.2f", peer.Seconds), cell(hasOwn, "%.2f", own.Seconds),
			cell(hasPeer && hasOwn, "**%.2f**", own.Seconds/max(peer.Seconds, 1e-9)),
			cell(hasPeer, "%s", humanize.IBytes(peer.Wire)), cell(hasOwn, "%s", humanize.IBytes(own.Wire)),
			cell(hasPeer, "%.1f", peer.CPU), cell(hasOwn, "%.1f", own.CPU),
			cell(hasPeer, "%d / %d", peer.SenderPeak>>20, peer.ReceiverPeak>>20),
			cell(hasOwn, "%d / %d", own.SenderPeak>>20, own.ReceiverPeak>>20),
			cell(hasOwn, "%s", humanize.IBytes(own.Journal)),
		}, " | ")+" |")
	}
	r.streams(w)
	return w.Flush()
}

// streams writes the table of databases' logs, if there is any.
func (r *results) streams(w io.Writer) {
	head := "| case | PostgreSQL s | repld s | repld ÷ PostgreSQL | wire PostgreSQL | wire repld |\n|---|---:|---:|---:|---:|---:|\n"
	for _, c := range r.cases {
		peer, ok1 := median(c.Samples["postgres"])
		own, ok2 := median(c.Samples["repld"])
		if c.Sequence != "wal" || !ok1 || !ok2 {
			continue
		}
		fmt.Fprintf(w, "\n%s| %s | %.2f | %.2f | **%.2f** | %s | %s |\n", head, c.Case, peer.Seconds, own.Seconds,
			own.Seconds/max(peer.Seconds, 1e-9), humanize.IBytes(peer.Wire), humanize.IBytes(own.Wire))
		head = ""
	}
}

// machine says what the measurement ran on.
func machine(dir string) string {
	parts := []string{fmt.Sprintf("%d × %s", runtime.NumCPU(), processor())}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		parts = append(parts, humanize.IBytes(info.Totalram*uint64(info.Unit))+" of memory")
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		parts = append(parts, "Linux "+unix.ByteSliceToString(name.Release[:]))
	}
	parts = append(parts, fileSystem(dir), runtime.Version(), peerVersion())
	return strings.Join(parts, ", ")
}

func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func fileSystem(dir string) string {
	names := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs"}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "unknown file system"
	}
	if name := names[int64(st.Type)]; name != "" {
		return name
	}
	return fmt.Sprintf("file system type %#x", st.Type)
}

// peerVersion is rsync's name and version.
func peerVersion() string {
	out, err := exec.Command("rsync", "--version").Output()
	if err != nil {
		return "rsync of unknown version"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.Join(strings.Fields(line), " ")
}
