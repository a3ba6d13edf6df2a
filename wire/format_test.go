package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// update makes the fixture of the present protocol version anew; see
// testdata/formats/README.md.
var update = flag.Bool("update", false, "make testdata/formats of the present version anew")

const formats = "../testdata/formats"

// fixtureMessage is the largest frame in a fixture, in bytes.
const fixtureMessage = 20 << 10

// told is what a fixture says of a message.
func told(m Message) string {
	text, err := json.Marshal(m)
	return fmt.Sprintf("%v %.500q %v", m.Type(), text, err)
}

// TestFixture: messages as each version has sent them mean what they meant.
func TestFixture(t *testing.T) {
	if *update {
		makeFixture(t, filepath.Join(formats, fmt.Sprint(MaxVersion), "wire.txt"))
	}
	files, err := filepath.Glob(formats + "/*/wire.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			seen := map[Type]bool{}
			lines := bufio.NewScanner(bytes.NewReader(text))
			lines.Buffer(nil, 4*fixtureMessage)
			for lines.Scan() {
				want := lines.Text()
				if !lines.Scan() {
					t.Fatalf("no frame behind %q", want)
				}
				frame, err := hex.DecodeString(strings.TrimSpace(lines.Text()))
				if err != nil {
					t.Fatal(err)
				}
				var r frameReader
				m, err := r.next(bytes.NewReader(frame), nil)
				if err != nil {
					t.Errorf("%s: %v", want, err)
					continue
				}
				seen[m.Type()] = true
				if got := told(m); got != want {
					t.Errorf("found %s\nwant  %s", got, want)
				}
			}
			if filepath.Base(filepath.Dir(path)) != fmt.Sprint(MaxVersion) {
				return
			}
			for typ, k := range kinds {
				if !seen[typ] {
					t.Errorf("there is no %s: go test ./wire -run TestFixture -update adds it, if no version with it was released", k.name)
				}
			}
		})
	}
}

// makeFixture writes what a message says and its frame in turns.
func makeFixture(t *testing.T, path string) {
	t.Helper()
	var out strings.Builder
	for _, m := range append(samples(), &ManifestRecords{Records: []byte{1, 2, 3}}) {
		frame, err := appendFrame(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		if len(frame) <= fixtureMessage {
			fmt.Fprintf(&out, "%s\n    %x\n", told(m), frame)
		}
	}
	if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
