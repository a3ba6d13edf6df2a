package parity

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Format is the version of what [Facts.Marshal] writes.
const Format = 1

// MaxSize is the largest JSON of facts, in bytes. A usual machine has a tenth of that.
const MaxSize = 2 << 20

// The limits of one machine's facts.
const (
	MaxPackages   = 20000
	MaxFiles      = 4096     // that are compared
	MaxFileSize   = 64 << 20 // of one of them, in bytes; larger ones are not read
	MaxParameters = 4096     // of one database
	maxText       = 1024     // bytes of a version, a parameter or an error
	maxUnknown    = 200
)

// ErrFormat is wrapped where facts are of a version that this one doesn't know.
var ErrFormat = errors.New("unknown format of facts")

// Facts are what a node knows about itself. Absent values are unknown.
type Facts struct {
	Format       int    `json:"format"`
	Node         string `json:"node"`
	Kernel       string `json:"kernel,omitempty"`       // release: "6.1.0-18-amd64"
	Distribution string `json:"distribution,omitempty"` // "Debian GNU/Linux 12 (bookworm)"
	Architecture string `json:"architecture,omitempty"` // "x86_64"
	CPUs         int    `json:"cpus,omitempty"`         // online
	Memory       uint64 `json:"memory_bytes,omitempty"`

	// Disks are sizes in bytes by what lies on them: "tree sounz/data", "state".
	Disks map[string]uint64 `json:"disks,omitempty"`
	// Packages are versions by name, with the architecture where there may be several:
	// "apache2:amd64". nil: there is no package manager that is known.
	Packages map[string]string `json:"packages,omitempty"`
	// Files are "sha256:…", or "link:TARGET" of a symbolic link, by absolute path.
	Files map[string]string `json:"files,omitempty"`
	// Commands are what they have written, by the command with its arguments.
	Commands map[string]Output `json:"commands,omitempty"`
	// Databases are parameters by name, by "GROUP/DATABASE".
	Databases map[string]map[string]string `json:"databases,omitempty"`
	// Unknown is why something could not be found out, by what: "packages", "file /etc/x",
	// "command php -v", "pattern /etc/**". Sorted keys, at most some hundred.
	Unknown map[string]string `json:"unknown,omitempty"`
}

// Output is what a command has written and how it ended.
type Output struct {
	Exit int    `json:"exit"`
	Text string `json:"text"` // the end, without white space around it
}

// Marshal returns f as JSON, the same bytes for the same facts.
func (f *Facts) Marshal() ([]byte, error) {
	data, err := json.Marshal(f)
	if err == nil && len(data) > MaxSize {
		err = fmt.Errorf("the facts have %d bytes, want at most %d: compare fewer files", len(data), MaxSize)
	}
	return data, err
}

// Unmarshal reads what Marshal has written, on this node or another one.
func Unmarshal(data []byte) (*Facts, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("the facts have %d bytes, want at most %d", len(data), MaxSize)
	}
	var f Facts
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("facts can't be read: %w", err)
	}
	if f.Format != Format {
		return nil, fmt.Errorf("%w: found %d, want %d", ErrFormat, f.Format, Format)
	}
	return &f, nil
}

func (f *Facts) unknown(what string, err error) {
	if f.Unknown == nil {
		f.Unknown = map[string]string{}
	}
	if len(f.Unknown) < maxUnknown {
		f.Unknown[what] = short(err.Error())
	}
}

// short cuts a text that is longer than anybody would read.
func short(s string) string {
	if len(s) <= maxText {
		return s
	}
	return s[:maxText] + "…"
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
