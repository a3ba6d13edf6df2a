package view

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"repld/change"
	"repld/control"
)

// Duration formats d for reading: "0.21 s", "12 s", "3m5s", "2d3h".
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s" // two clocks that disagree by a little
	case d < 10*time.Second:
		return fmt.Sprintf("%.2g s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// Bytes formats a size with its binary unit.
func Bytes(n uint64) string { return humanize.IBytes(n) }

// Count formats a number of things with their name, in the singular for one.
func Count(n uint64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return humanize.Comma(int64(n)) + " " + thing
}

// Databases formats where the databases stood at a barrier, as their engines write it:
// "shop 7:4096, sounz 0/1A2B3C8"; "" if there are none.
func Databases(at map[string]control.DatabasePosition) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(at)) {
		parts = append(parts, name+" "+at[name].Position)
	}
	return strings.Join(parts, ", ")
}

// Digest formats a digest by its first digits, enough to compare by eye.
func Digest(d change.Digest) string {
	const shown = len("b3:") + 12
	return d.String()[:shown] + "…"
}
