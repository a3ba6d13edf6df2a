package preflight

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"repld/config"
	"repld/watch"
)

// without says what happens on a node that lacks a capability, first on the
// primary, then on the standby.
var without = map[string][2]string{
	"CAP_DAC_READ_SEARCH": {"what this user may not read can't be replicated, and delays every barrier", ""},
	"CAP_SYS_PTRACE":      {"writes of other users' processes through shared mappings may be missed", ""},
	"CAP_SYS_ADMIN":       {"fanotify and attributes of the trusted namespace are out of reach", "attributes of the trusted namespace are not kept"},
	"CAP_FOWNER":          {"reading what belongs to others changes its access time", "modes and times of what belongs to others are not kept"},
	"CAP_DAC_OVERRIDE":    {"", "what is in directories of others can't be changed"},
	"CAP_CHOWN":           {"", "owners are not kept"},
	"CAP_FSETID":          {"", "setgid is not kept for groups that this user isn't in"},
	"CAP_MKNOD":           {"", "device nodes are not made"},
	"CAP_SETFCAP":         {"", "file capabilities are not kept"},
}

// privileges notes what this process isn't allowed to do.
func (k *check) privileges() {
	lacks, side := k.held.ReadLacks(), 0
	if k.config.Designated == config.Secondary {
		lacks, side = k.held.KeepLacks(), 1
	}
	for _, name := range lacks {
		text := "user " + strconv.Itoa(os.Geteuid()) + " has no " + name
		if what := without[name][side]; what != "" {
			text += ": " + what
		}
		k.note("%s", text)
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
		k.inotify(what, fmt.Sprintf("fanotify can't be used (%s); ", reason(err)))
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
		k.note("%s: %sinotify can't be used: %v", what, why, err)
		return
	}
	k.note("%s: %sinotify needs a watch for each of its directories, of which this user can have %s (fs.inotify.max_user_watches)",
		what, why, strings.TrimSpace(string(limit)))
}
