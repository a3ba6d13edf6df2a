package preflight

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"repld/config"
	"repld/watch"
)

// caps is a set of capabilities(7), a bit for each.
type caps uint64

// capabilities returns those that are effective.
func capabilities() caps {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if unix.Capget(&header, &data[0]) != nil {
		return 0
	}
	return caps(data[0].Effective) | caps(data[1].Effective)<<32
}

func (c caps) has(bit int) bool { return c&(1<<bit) != 0 }

// use is what a capability is for, and so what happens without it.
type use struct {
	bit     int
	name    string
	without string
}

var readerUses = []use{
	{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "what this user may not read can't be replicated, and delays every barrier"},
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "writes of other users' processes through shared mappings may be missed"},
}

var writerUses = []use{
	{unix.CAP_CHOWN, "CAP_CHOWN", "owners are not kept"},
	{unix.CAP_FOWNER, "CAP_FOWNER", "modes and times of what belongs to others are not kept"},
	{unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE", "what is in directories of others can't be changed"},
	{unix.CAP_MKNOD, "CAP_MKNOD", "device nodes are not made"},
	{unix.CAP_SETFCAP, "CAP_SETFCAP", "file capabilities are not kept"},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "attributes of the trusted namespace are not kept"},
}

// missing notes what this process isn't allowed to do.
func (k *check) missing(uses []use) {
	for _, u := range uses {
		if !k.caps.has(u.bit) {
			k.note("user %d without %s: %s", os.Geteuid(), u.name, u.without)
		}
	}
}

func (k *check) asUser() string {
	if os.Geteuid() == 0 {
		return ""
	}
	return fmt.Sprintf("this is user %d: run the check as the user of the service", os.Geteuid())
}

// watched checks how changes of a tree would be noticed.
func (k *check) watched(key, what string, t config.Tree) {
	if t.Watch == config.WatchPoll {
		k.note("%s is watched by polling: its barriers are not consistent cuts", what)
		return
	}
	if t.Watch == config.WatchInotify {
		k.inotify(what, "")
		return
	}
	// A watcher that doesn't run; its marks go with it.
	w, err := watch.New(watch.Options{
		Trees: []watch.Tree{{Name: t.Name, Path: t.Path}}, Backend: watch.Fanotify, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	switch {
	case err == nil:
		if err := w.Close(); err != nil {
			k.failed(key+".watch", what, err)
		}
	case t.Watch == config.WatchFanotify:
		k.wrong(key+".watch", "watch: auto falls back to inotify", "%s can't be watched by fanotify: %v", what, err)
	case errors.Is(err, watch.ErrUnsupported):
		k.inotify(what, fmt.Sprintf("fanotify can't be used (%s), ", reason(err)))
	default:
		k.failed(key+".path", what, err)
	}
}

// reason drops what says only that there is one.
func reason(err error) string {
	return strings.TrimSuffix(err.Error(), " ("+watch.ErrUnsupported.Error()+")")
}

func (k *check) inotify(what, why string) {
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_user_watches")
	if err != nil {
		k.note("%s: %sinotify can't be used either: %v", what, why, err)
		return
	}
	k.note("%s: %seach of its directories takes an inotify watch, of which this user can have %s (fs.inotify.max_user_watches)",
		what, why, strings.TrimSpace(string(limit)))
}
