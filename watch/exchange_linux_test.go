package watch

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestExchangeIsScannedInBetween: of two directories that change places, inotify tells
// that one has come and then that the other has gone. The one that has come stays
// watched, wherever between the two it was looked at.
func TestExchangeIsScannedInBetween(t *testing.T) {
	for files := scanEvery - 5; files <= scanEvery; files++ {
		root := t.TempDir()
		for _, dir := range []string{"/x", "/y", "/other"} {
			must(t, os.Mkdir(root+dir, 0o755))
		}
		began, all := make(chan struct{}), make(chan struct{})
		var armed, once atomic.Bool
		w := settled(t, Options{Backend: Inotify, Trees: []Tree{{Path: root}}, hooks: hooks{beforeRead: func() {
			if armed.Load() && once.CompareAndSwap(false, true) {
				close(began)
				<-all
			}
		}}})
		armed.Store(true)
		must(t, os.Mkdir(root+"/new", 0o755)) // something to be looked at, between so many events
		<-began
		for i := range files {
			write(t, fmt.Sprintf("%s/other/%d", root, i), "")
		}
		must(t, unix.Renameat2(unix.AT_FDCWD, root+"/x", unix.AT_FDCWD, root+"/y", unix.RENAME_EXCHANGE))
		queue := w.(*inotify).events.Events
		for end := time.Now().Add(deadline); len(queue) < files+6; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%d events are queued, want %d", len(queue), files+6)
			}
		}
		close(all)
		drain(t, w)
		drain(t, w)
		write(t, root+"/x/f", "")
		write(t, root+"/y/f", "")
		set, _ := drain(t, w)
		for _, dir := range []string{"x", "y"} {
			if it, _ := set.Get(Key{Dir: dir, Name: "f"}); it.What&Entry == 0 {
				t.Errorf("behind %d files: a new name in %s isn't told; all: %v", files, dir, list(set))
			}
		}
	}
}
