package tree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"repld/change"
)

const (
	benchDirs  = 230
	benchFiles = 200 // 46,000 in all, of 4 KiB, about what source trees have
)

// benchTree makes the many small files of the project's benchmarks, in two levels.
func benchTree(b *testing.B, dirs int) string {
	b.Helper()
	dir := b.TempDir()
	data := make([]byte, 4<<10)
	for d := range dirs {
		sub := filepath.Join(dir, fmt.Sprint(d%10), fmt.Sprint(d))
		mkdir(b, sub)
		for f := range benchFiles {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file-%03d.go", f)), data, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	return dir
}

func walkFiles(b *testing.B, rd *Reader, path string, each func(path string, st *change.Stat)) {
	entries, err := rd.ReadDir(path)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		p := change.Join(path, e.Name)
		st, err := rd.Lstat(p)
		if err != nil {
			b.Fatal(err)
		}
		if st.Kind == change.KindDir {
			walkFiles(b, rd, p, each)
			continue
		}
		each(p, &st)
	}
}

func perFile(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchDirs*benchFiles), "ns/file")
}

// BenchmarkScan lists and stats 46,000 files.
func BenchmarkScan(b *testing.B) {
	rd := openReader(b, benchTree(b, benchDirs))
	b.ReportAllocs()
	for b.Loop() {
		walkFiles(b, rd, "", func(string, *change.Stat) {})
	}
	perFile(b)
}

// BenchmarkScanMeta reads all metadata with it.
func BenchmarkScanMeta(b *testing.B) {
	rd := openReader(b, benchTree(b, benchDirs))
	b.ReportAllocs()
	for b.Loop() {
		walkFiles(b, rd, "", func(p string, st *change.Stat) {
			if _, err := rd.Meta(p, st); err != nil {
				b.Fatal(err)
			}
		})
	}
	perFile(b)
}

// BenchmarkRead captures 46,000 files: scan, open, read, attributes, stat again.
func BenchmarkRead(b *testing.B) {
	rd := openReader(b, benchTree(b, benchDirs))
	buf := make([]byte, 64<<10)
	b.ReportAllocs()
	for b.Loop() {
		walkFiles(b, rd, "", func(p string, st *change.Stat) {
			f, err := rd.OpenFile(p)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := f.ReadAt(buf[:st.Size], 0); err != nil && err != io.EOF {
				b.Fatal(err)
			}
			if _, err := f.Meta(st); err != nil {
				b.Fatal(err)
			}
			if _, err := f.Stat(); err != nil {
				b.Fatal(err)
			}
			f.Close()
		})
	}
	perFile(b)
}

// BenchmarkStage creates, writes, and sets the metadata of 46,000 files, then syncs.
func BenchmarkStage(b *testing.B) {
	base := b.TempDir()
	mkdir(b, filepath.Join(base, "tree"))
	v := openVolume(b, filepath.Join(base, "tree"), VolumeOptions{})
	data := make([]byte, 4<<10)
	m := change.Meta{Mode: 0o644, UID: v.uid, GID: v.gid, Mtime: change.Time{Sec: 1_600_000_000}}
	b.ReportAllocs()
	turn := 0
	for b.Loop() {
		// A directory for each turn, and nothing removed meanwhile: for five seconds ext4
		// searches at length for inodes that were not recently deleted.
		turn++
		if err := v.Mkdir(InOwn(fmt.Sprint(turn))); err != nil {
			b.Fatal(err)
		}
		for i := range benchDirs * benchFiles {
			f, err := v.Create(InOwn(fmt.Sprintf("%d/%d", turn, i)))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := f.WriteAt(data, 0); err != nil {
				b.Fatal(err)
			}
			if _, err := f.SetMeta(&m); err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
		if err := v.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	perFile(b)
}

// BenchmarkPublish renames 46,000 staged files into 230 directories.
func BenchmarkPublish(b *testing.B) {
	base := b.TempDir()
	mkdir(b, filepath.Join(base, "tree"))
	v := openVolume(b, filepath.Join(base, "tree"), VolumeOptions{})
	turn := 0
	for b.Loop() {
		b.StopTimer()
		turn++
		from, to := fmt.Sprintf("from-%d", turn), fmt.Sprintf("to-%d", turn)
		if err := errors.Join(v.Mkdir(InOwn(from)), v.Mkdir(InTree(to))); err != nil {
			b.Fatal(err)
		}
		for i := range benchDirs * benchFiles {
			if i%benchFiles == 0 {
				if err := v.Mkdir(InTree(fmt.Sprintf("%s/%d", to, i/benchFiles))); err != nil {
					b.Fatal(err)
				}
			}
			f, err := v.Create(InOwn(fmt.Sprintf("%s/%d", from, i)))
			if err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
		b.StartTimer()
		for i := range benchDirs * benchFiles {
			if err := v.Rename(InOwn(fmt.Sprintf("%s/%d", from, i)), InTree(fmt.Sprintf("%s/%d/%d", to, i/benchFiles, i))); err != nil {
				b.Fatal(err)
			}
		}
	}
	perFile(b)
}
