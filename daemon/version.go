package daemon

import (
	"runtime"
	"runtime/debug"

	"repld/control"
	"repld/journal"
	"repld/wire"
)

// Version is the version of this software.
const Version = control.Version

// commit is set by the linker (see Makefile); a build without it asks the
// version control stamp of the Go tool.
var commit string

// Build says what this binary is made of.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	// WireFormat is the newest version of the protocol that it speaks, DiskFormat
	// that of the log and the catalog that it writes.
	WireFormat int `json:"wire_format"`
	DiskFormat int `json:"disk_format"`
}

// BuildInfo describes this binary.
func BuildInfo() Build {
	b := Build{Version: Version, Commit: commit, Go: runtime.Version(), WireFormat: wire.MaxVersion, DiskFormat: journal.FormatVersion}
	info, ok := debug.ReadBuildInfo()
	if b.Commit != "" || !ok {
		return b
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Commit = s.Value
		}
	}
	return b
}
