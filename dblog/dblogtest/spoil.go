package dblogtest

import (
	"os"
	"path/filepath"
	"slices"
)

// Spoils returns what flips a bit of the standby's spool, in the first frame that has come
// since.
func (l *Link) Spoils() (flip func()) {
	l.t.Helper()
	names, err := filepath.Glob(filepath.Join(l.opts.SpoolDir, "*.spool"))
	Must(l.t, err)
	last := slices.Max(names)
	st, err := os.Stat(last)
	Must(l.t, err)
	const within = 40 // a frame's head has 32 bytes
	return func() {
		l.t.Helper()
		f, err := os.OpenFile(last, os.O_RDWR, 0)
		Must(l.t, err)
		defer f.Close()
		b := make([]byte, 1)
		_, err = f.ReadAt(b, st.Size()+within)
		Must(l.t, err)
		b[0] ^= 1
		_, err = f.WriteAt(b, st.Size()+within)
		Must(l.t, err)
	}
}
