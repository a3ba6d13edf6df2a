package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// sampleSum says what a sample consists of.
type sampleSum struct {
	files, bytes        uint64 // regular files, and their bytes without holes
	hardLinks, symlinks uint64
	holes               uint64 // bytes
}

// makeSample makes a tree of about so many files of mixed sizes, with hard links,
// symbolic links and holes. It is the same every time but for the owner.
func makeSample(ctx context.Context, root string, files int) (sampleSum, error) {
	m := &sampler{root: root, rng: rand.New(rand.NewPCG(1, 2))}
	for i := range files {
		if err := ctx.Err(); err != nil {
			return m.sum, err
		}
		if err := m.document(i); err != nil {
			return m.sum, err
		}
	}
	for i := range 3 {
		if err := m.write(fmt.Sprintf("media/clip-%d.bin", i), 4<<20, 1); err != nil {
			return m.sum, err
		}
	}
	for i := range 4 {
		if err := m.sparse(fmt.Sprintf("images/disk-%d.img", i), 16<<20); err != nil {
			return m.sum, err
		}
	}
	return m.sum, nil
}

type sampler struct {
	root string
	rng  *rand.Rand
	last string // the newest document
	sum  sampleSum
}

func (m *sampler) path(rel string) (string, error) {
	path := filepath.Join(m.root, rel)
	return path, os.MkdirAll(filepath.Dir(path), 0o755)
}

// document makes a small file, and now and then a link.
func (m *sampler) document(i int) error {
	rel := fmt.Sprintf("documents/%02d/%02d/note-%05d.txt", i%23, i%7, i)
	// Sizes from 64 bytes to 128 KiB, each order of magnitude as often as the next.
	size := int(math.Exp(math.Log(64) + m.rng.Float64()*math.Log(2048)))
	if err := m.write(rel, size, m.rng.Float64()); err != nil {
		return err
	}
	path := filepath.Join(m.root, rel)
	if i%11 == 0 {
		if err := os.Chmod(path, 0o400+fs.FileMode(m.rng.IntN(0o1000))&0o377); err != nil {
			return err
		}
	}
	// Times with nanoseconds, some before 1970.
	when := time.Unix(m.rng.Int64N(2_000_000_000)-300_000_000, m.rng.Int64N(1e9))
	if err := os.Chtimes(path, when, when); err != nil {
		return err
	}
	defer func() { m.last = rel }()
	switch {
	case m.last != "" && i%40 == 0:
		link, err := m.path(fmt.Sprintf("hard/%05d", i))
		if err != nil {
			return err
		}
		m.sum.hardLinks++
		return os.Link(filepath.Join(m.root, m.last), link)
	case i%40 == 20:
		link, err := m.path(fmt.Sprintf("soft/%05d", i))
		if err != nil {
			return err
		}
		m.sum.symlinks++
		return os.Symlink(filepath.Join("..", rel), link)
	}
	return nil
}

// write makes a file; noise is the share of it that can't be compressed.
func (m *sampler) write(rel string, size int, noise float64) error {
	path, err := m.path(rel)
	if err != nil {
		return err
	}
	m.sum.files++
	m.sum.bytes += uint64(size)
	return os.WriteFile(path, m.data(size, noise), 0o644)
}

func (m *sampler) data(size int, noise float64) []byte {
	data := make([]byte, size)
	random := int(float64(size) * noise)
	for i := range random {
		data[i] = byte(m.rng.Uint32())
	}
	const text = "the standby moves only from barrier to barrier\n"
	for i := random; i < size; i++ {
		data[i] = text[i%len(text)]
	}
	return data
}

// sparse makes a file that is a hole with some islands of data.
func (m *sampler) sparse(rel string, size int64) error {
	path, err := m.path(rel)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	const island, islands = 64 << 10, 3
	for i := range int64(islands) {
		if _, err := f.WriteAt(m.data(island, 1), i*size/islands); err != nil {
			return err
		}
	}
	m.sum.files++
	m.sum.bytes += islands * island
	m.sum.holes += uint64(size) - islands*island
	return f.Close()
}

// compareSample compares the standby's sample with the primary's, file by file,
// and returns how many objects there are.
func compareSample(ctx context.Context, from, to string) (objects int, err error) {
	want, err := namesBelow(ctx, from)
	if err != nil {
		return 0, err
	}
	found, err := namesBelow(ctx, to)
	if err != nil {
		return 0, err
	}
	var p problems
	for rel := range want {
		if !found[rel] {
			p.add("%s is missing", rel)
			continue
		}
		delete(found, rel)
		if what, err := compareObject(filepath.Join(from, rel), filepath.Join(to, rel)); err != nil {
			return 0, err
		} else if what != "" {
			p.add("%s has another %s", rel, what)
		}
	}
	for rel := range found {
		p.add("%s is too many", rel)
	}
	return len(want), p.err()
}

func namesBelow(ctx context.Context, root string) (map[string]bool, error) {
	names := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		names[rel] = true
		return errors.Join(err, ctx.Err())
	})
	return names, err
}

// compareObject says what differs between two objects; "" = nothing.
func compareObject(a, b string) (what string, err error) {
	ai, err := os.Lstat(a)
	if err != nil {
		return "", err
	}
	bi, err := os.Lstat(b)
	if err != nil {
		return "", err
	}
	as, bs := ai.Sys().(*syscall.Stat_t), bi.Sys().(*syscall.Stat_t)
	switch {
	case ai.Mode() != bi.Mode():
		return "mode", nil
	case !ai.ModTime().Equal(bi.ModTime()):
		return "time", nil
	case !ai.IsDir() && (as.Nlink != bs.Nlink):
		return "number of links", nil
	case as.Uid != bs.Uid || as.Gid != bs.Gid:
		return "owner", nil
	}
	const block = 512 // the unit of st_blocks, stat(2)
	switch ai.Mode().Type() {
	case fs.ModeSymlink:
		at, err := os.Readlink(a)
		if err != nil {
			return "", err
		}
		if bt, err := os.Readlink(b); err != nil || at != bt {
			return "target", err
		}
	case 0:
		ab, err := os.ReadFile(a)
		if err != nil {
			return "", err
		}
		bb, err := os.ReadFile(b)
		switch {
		case err != nil:
			return "", err
		case !bytes.Equal(ab, bb):
			return "content", nil
		case as.Blocks*block < as.Size/2 && bs.Blocks*block > bs.Size/2:
			return "allocation: its holes were filled", nil
		}
	}
	return "", nil
}
