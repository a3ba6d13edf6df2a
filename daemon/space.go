package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"repld/health"
	"repld/role"
)

// space is the room on the file systems that this node writes to.
//
// A file system with less than disk_reserve is short: a condition says so, the
// primary's logs grow no more, a standby takes nothing in, and its history shrinks.
// Quick mode has no reserve; there the end is the disk's own.

// lookEvery is how often free space is looked at.
const lookEvery = time.Second

// watchSpace keeps the conditions about free space right until ctx ends.
func (n *node) watchSpace(ctx context.Context) error {
	if n.opts.quick != nil {
		return nil
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		var found []health.Condition
		seen := make(map[unix.Fsid]bool)
		for i, path := range n.written() {
			free, reserve, id, err := n.space(path)
			if err != nil {
				continue // whoever works there says what is wrong
			}
			if i == 0 {
				n.short.Store(free < reserve)
			}
			if free < reserve && !seen[id] {
				found = append(found, health.Condition{Code: health.DiskLow, Subject: path,
					Text: fmt.Sprintf("the file system of %s has %s free; %s are to be kept free", path, humanize.IBytes(free), humanize.IBytes(reserve))})
			}
			seen[id] = true
		}
		n.board.Reconcile("", []health.Code{health.DiskLow}, found)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// written are the directories that this node writes to: first that of its state, then
// a standby's trees.
func (n *node) written() []string {
	paths := []string{n.conf.State}
	for _, g := range n.groups {
		if g.task().does == role.Sends {
			continue
		}
		for _, t := range g.conf.Trees {
			paths = append(paths, t.Path)
		}
	}
	return paths
}

// space returns what is free on the file system of path and what must be kept so, in
// bytes.
func (n *node) space(path string) (free, reserve uint64, id unix.Fsid, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, id, err
	}
	free, size := s.Bavail*uint64(s.Bsize), s.Blocks*uint64(s.Bsize)
	if n.opts.quick != nil {
		return free, 0, s.Fsid, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return free, n.live.DiskReserve.Of(size), s.Fsid, nil
}
