package apply

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mess does random things to a directory.
type mess struct {
	t   testing.TB
	r   *rand.Rand
	dir string
	n   int
}

// pick returns an existing path, of a directory if dirs; "" is the root.
func (m *mess) pick(dirs bool) string {
	var paths []string
	must(m.t, filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(m.dir, path)
		if err == nil && d.IsDir() == dirs && rel != "." {
			paths = append(paths, rel)
		}
		return err
	}))
	if dirs {
		paths = append(paths, "")
	}
	if len(paths) == 0 {
		return ""
	}
	return paths[m.r.IntN(len(paths))]
}

// fresh returns a path in an existing directory, mostly of no object yet.
func (m *mess) fresh() string {
	m.n++
	return filepath.Join(m.pick(true), fmt.Sprintf("n%d", m.r.IntN(m.n+5)))
}

func (m *mess) step() {
	at := func(path string) string { return filepath.Join(m.dir, path) }
	file := m.pick(false)
	var err error
	switch m.r.IntN(14) {
	case 0, 1, 2:
		err = os.WriteFile(at(m.fresh()), noise(m.r.Uint64(), m.r.IntN(200_000)), 0o644)
	case 3:
		err = os.Mkdir(at(m.fresh()), 0o755)
	case 4:
		err = os.Symlink(fmt.Sprint("to", m.n), at(m.fresh()))
	case 5:
		if file != "" {
			err = unix.Linkat(unix.AT_FDCWD, at(file), unix.AT_FDCWD, at(m.fresh()), 0)
		}
	case 6:
		if file != "" {
			err = os.Rename(at(file), at(m.fresh()))
		}
	case 7:
		if dir := m.pick(true); dir != "" {
			to := m.fresh()
			if !strings.HasPrefix(to+"/", dir+"/") {
				err = os.Rename(at(dir), at(to))
			}
		}
	case 8:
		if a, b := m.pick(true), m.pick(true); a != "" && b != "" && !strings.HasPrefix(a+"/", b+"/") && !strings.HasPrefix(b+"/", a+"/") {
			err = unix.Renameat2(unix.AT_FDCWD, at(a), unix.AT_FDCWD, at(b), unix.RENAME_EXCHANGE)
		}
	case 9:
		if file != "" {
			err = os.Remove(at(file))
		}
	case 10:
		if dir := m.pick(true); dir != "" && m.r.IntN(3) == 0 {
			err = os.RemoveAll(at(dir))
		}
	case 11:
		if info, e := os.Lstat(at(file)); e == nil && info.Mode().IsRegular() && file != "" {
			patch(m.t, at(file), m.r.Int64N(info.Size()+100), noise(m.r.Uint64(), 50))
		}
	case 12:
		if info, e := os.Lstat(at(file)); e == nil && info.Mode().IsRegular() && file != "" {
			err = os.Truncate(at(file), m.r.Int64N(300_000))
		}
	case 13:
		if dir := m.pick(true); dir != "" {
			err = os.Chtimes(at(dir), time.Unix(m.r.Int64N(1e9), 5), time.Unix(m.r.Int64N(1e9)-1e8, 7))
		}
	}
	for _, harmless := range []error{unix.EEXIST, unix.ENOTEMPTY, unix.EISDIR, unix.ENOTDIR, unix.ENOENT, unix.EINVAL} {
		if errors.Is(err, harmless) {
			err = nil
		}
	}
	must(m.t, err)
}

var randomSeed = flag.Uint64("random.seed", 0, "repeat a randomised test from this seed; 0: another each time")

// TestRandom: random changes, barriers, stops at random operations; then the
// trees are equal.
func TestRandom(t *testing.T) {
	seed := *randomSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-random.seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	rounds := 40
	if testing.Short() || raceEnabled {
		rounds = 15
	}
	p := newPrimary(t)
	m := &mess{t: t, r: r, dir: p.dir}
	for range 60 {
		m.step()
	}
	s := newStandby(t, p)
	s.redo = 50_000
	must(t, s.start())
	p.barrier()
	must(t, s.Seed(t.Context(), p.manifest()))
	for i := range rounds {
		for range 1 + r.IntN(40) {
			m.step()
		}
		p.barrier()
		s.receive(p)
		if r.IntN(3) > 0 {
			c := &crasher{n: 1 + r.IntN(150), armed: true, torn: r.IntN(2) == 0}
			s.stop()
			s.hook = c.hook
			if err := s.start(); err == nil {
				if r.IntN(2) == 0 { // more comes before it is tried again
					s.Step(t.Context())
					m.step()
					p.barrier()
				}
				s.receive(p)
				if err := s.Step(t.Context()); err != nil && !errors.Is(err, errCrash) {
					t.Fatalf("round %d: %v", i, err)
				}
			} else if !errors.Is(err, errCrash) {
				t.Fatalf("round %d: %v", i, err)
			}
			s.reopen(nil, nil)
		}
		if s.log.End().Offset < p.log.End().Offset {
			s.receive(p)
		}
		must(t, s.Step(t.Context()))
		same(t, p, s)
		noForeign(t, s)
	}
	report, err := s.Verify(t.Context(), VerifyOptions{})
	must(t, err)
	if report.Count > 0 {
		t.Errorf("verify: %+v", report.Differences)
	}
}
