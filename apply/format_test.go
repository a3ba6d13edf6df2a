package apply

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// update makes the fixture of the present format version anew; see
// testdata/formats/README.md.
var update = flag.Bool("update", false, "make testdata/formats of the present version anew")

const formats = "../testdata/formats"

// TestFixture: the scratch file of each format version can be read, with the commit
// record in it.
func TestFixture(t *testing.T) {
	if *update {
		makeFixture(t, filepath.Join(formats, fmt.Sprint(scratchFormat)))
	}
	files, err := filepath.Glob(formats + "/*/apply.db")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no fixtures")
	}
	for _, path := range files {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			want, err := os.ReadFile(strings.TrimSuffix(path, ".db") + ".txt")
			must(t, err)
			data, err := os.ReadFile(path)
			must(t, err)
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "apply.db"), data, 0o600))
			s, err := openScratch(dir)
			must(t, err)
			defer s.close()
			must(t, s.readable())
			// It has become one of the present format.
			told := strings.ReplaceAll(string(want), fmt.Sprintf("  %x 01\n", keyFormat), fmt.Sprintf("  %x %02x\n", keyFormat, scratchFormat))
			if got := tellScratch(t, s); got != told {
				t.Errorf("found\n%s\nwant\n%s", got, told)
			}
		})
	}
}

// tellScratch describes all that a scratch file holds, but for the boot id.
func tellScratch(t *testing.T, s *scratch) string {
	t.Helper()
	var out strings.Builder
	c, err := s.commit()
	must(t, err)
	// What the first fixtures have not is left out where it says nothing.
	fmt.Fprintln(&out, strings.ReplaceAll(fmt.Sprintf("commit %+v", *c), " known:false", ""))
	must(t, s.view(func(tx *scratchTx) error {
		return tx.tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
			if string(name) == "proof" {
				return nil
			}
			fmt.Fprintf(&out, "%s\n", name)
			return eachFrom(tx.b(name), nil, func(k, v []byte) (bool, error) {
				switch string(name) {
				case string(bucketDetach), string(bucketAttach):
					o, err := decodeOperation(v)
					fmt.Fprintf(&out, "  %x %+v\n", k, o)
					return true, err
				case string(bucketStaged):
					staged, err := decodeStaged(v)
					fmt.Fprintf(&out, "  %x %+v\n", k, staged)
					return true, err
				case string(bucketTouch):
					touched, err := decodeTouched(k, v)
					fmt.Fprintf(&out, "  %x %+v\n", k, touched)
					return true, err
				}
				if string(k) != keyBoot {
					fmt.Fprintf(&out, "  %x %x\n", k, v)
				}
				return true, nil
			})
		})
	}))
	return out.String()
}

// makeFixture takes the scratch file of a standby that stopped after the commit.
func makeFixture(t *testing.T, dir string) {
	t.Helper()
	s := newScenario(t).standby(t)
	s.reopen(nil, func(point string) error {
		if point == PointCommitted {
			return errCrash
		}
		return nil
	})
	if err := s.Step(t.Context()); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	text := tellScratch(t, s.scratch)
	s.stop()
	data, err := os.ReadFile(filepath.Join(s.base, "apply.db"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "apply.db"), data, 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "apply.txt"), []byte(text), 0o644))
}
