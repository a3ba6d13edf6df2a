package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
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

// markdown writes the machine and a table of each kind that there is.
func (r *results) markdown(out io.Writer) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "%s; %s\n", r.started.UTC().Format("2006-01-02 15:04 MST"), machine(r.options.work))
	r.files(w)
	r.streams(w)
	r.latencies(w)
	return w.Flush()
}

// files writes the table of trees.
func (r *results) files(w io.Writer) {
	head := "\n| case | rsync s | repld s | repld ÷ rsync | wire rsync | wire repld | CPU s rsync | CPU s repld | peak MiB rsync send / receive | peak MiB repld primary / standby | journals |\n" +
		"|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
	for _, c := range r.cases {
		if c.Sequence == "wal" || c.Sequence == "replayed" {
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
		fmt.Fprintln(w, head+"| "+strings.Join([]string{
			c.Case,
			cell(hasPeer, "%.2f", peer.Seconds), cell(hasOwn, "%.2f", own.Seconds),
			cell(hasPeer && hasOwn, "**%.2f**", own.Seconds/max(peer.Seconds, 1e-9)),
			cell(hasPeer, "%s", humanize.IBytes(peer.Wire)), cell(hasOwn, "%s", humanize.IBytes(own.Wire)),
			cell(hasPeer, "%.1f", peer.CPU), cell(hasOwn, "%.1f", own.CPU),
			cell(hasPeer, "%d / %d", peer.SenderPeak>>20, peer.ReceiverPeak>>20),
			cell(hasOwn, "%d / %d", own.SenderPeak>>20, own.ReceiverPeak>>20),
			cell(hasOwn, "%s", humanize.IBytes(own.Journal)),
		}, " | ")+" |")
		head = ""
	}
}

// streams writes the table of databases' logs, if there is any.
func (r *results) streams(w io.Writer) {
	for _, c := range r.cases {
		own, ok := median(c.Samples["repld"])
		if c.Sequence != "wal" || !ok {
			continue
		}
		fmt.Fprintf(w, "\n| %s | s | repld ÷ it | wire |\n|---|---:|---:|---:|\n| repld | %.2f | | %s |\n", c.Case, own.Seconds, humanize.IBytes(own.Wire))
		for _, name := range slices.Sorted(maps.Keys(c.Samples)) {
			if peer, ok := median(c.Samples[name]); ok && name != "repld" {
				fmt.Fprintf(w, "| %s | %.2f | **%.2f** | %s |\n", name, peer.Seconds, own.Seconds/max(peer.Seconds, 1e-9), humanize.IBytes(peer.Wire))
			}
		}
	}
}

// latencies writes the table of what it takes until a commit is replayed, if there is any.
func (r *results) latencies(w io.Writer) {
	head := "\n| from commit to replayed, with | operations | p50 | p95 |\n|---|---:|---:|---:|\n"
	for _, c := range r.cases {
		if c.Sequence != "replayed" {
			continue
		}
		var list []float64
		for _, s := range c.Samples["repld"] {
			list = append(list, s.Seconds)
		}
		slices.Sort(list)
		n := len(list)
		fmt.Fprintf(w, "%s| %s | %d | %.0f ms | %.0f ms |\n", head, c.Case, n, list[n/2]*1000, list[n*95/100]*1000)
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
