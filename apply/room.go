package apply

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/dustin/go-humanize"

	"repld/change"
	"repld/journal/catalog"
)

// ErrNoRoom says that something wasn't staged, because less would be free on a tree's
// file system then than is to be kept free. Nothing has changed in the trees.
type ErrNoRoom struct {
	Tree    string
	Need    uint64 // bytes that were to be written next, or as far as known altogether
	Free    uint64 // bytes
	Reserve uint64 // bytes to be kept free
}

func (e *ErrNoRoom) Error() string {
	text := fmt.Sprintf("there is not enough room for it on the file system of tree %q: %s are needed, %s are free",
		e.Tree, humanize.IBytes(e.Need), humanize.IBytes(e.Free))
	if e.Reserve > 0 {
		text += fmt.Sprintf(", of which %s are to be kept free", humanize.IBytes(e.Reserve))
	}
	return text
}

// roomSlice is how many bytes are written to a tree's file system until its free space
// is looked at again: others write there, too, and several trees may share it.
const roomSlice = 8 << 20

// room sees to it that staging leaves free what is to be kept free. Its own files may
// take from that no more than the deletions of the same barrier give back: else a tree
// that was emptied to make room could not be emptied on the standby.
type room struct {
	a *Applier

	mu   sync.Mutex
	left []uint64 // by tree: bytes that may be written before the next look
	// returned are the bytes that deletions give back, by tree; nil: not counted yet,
	// as nobody had to know.
	returned []uint64
	tight    []*building // found no room in this attempt
}

func newRoom(a *Applier) *room { return &room{a: a, left: make([]uint64, len(a.trees))} }

// take asks for room for n bytes more in a tree.
func (r *room) take(index uint8, n uint64) error {
	if r.a.o.Space == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left[index] >= n {
		r.left[index] -= n
		return nil
	}
	above, err := r.check(index, n)
	if err != nil {
		return err
	}
	r.left[index] = min(roomSlice, above)
	return nil
}

// check returns how many bytes are to be had beyond n, or ErrNoRoom.
func (r *room) check(index uint8, n uint64) (above uint64, err error) {
	free, reserve, err := r.a.o.Space(int(index))
	if err != nil || reserve == 0 {
		return roomSlice, nil // whoever writes there says what is wrong
	}
	return r.hold(index, n, free, reserve)
}

// hold is check with what is free.
func (r *room) hold(index uint8, n, free, reserve uint64) (above uint64, err error) {
	floor := reserve
	if r.returned != nil {
		floor -= min(reserve, r.returned[index])
	}
	if free < floor+n {
		return 0, &ErrNoRoom{Tree: r.a.trees[index].Name, Need: n, Free: free, Reserve: reserve}
	}
	return free - floor - n, nil
}

// relent adds up what the overlay's deletions give back, at the first call, and reports
// whether that is anything. Where a history keeps the files, it gives them up once the
// reserve is used. Nobody may look into the overlay meanwhile who waits for room.
func (r *room) relent(ctx context.Context) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.returned != nil {
		return false, nil
	}
	r.returned = make([]uint64, len(r.a.trees))
	some := false
	err := r.a.catalog.ViewNext(func(tx *catalog.Tx) error {
		base := tx.Before()
		for ch := range tx.ChangedNodes() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if ch.Before == nil || ch.Before.Kind != change.KindFile || ch.After != nil && ch.After.Size >= ch.Before.Size {
				continue
			}
			at, err := r.a.locate(base, ch.ID)
			if err != nil {
				return err
			}
			gives := ch.Before.Size
			if ch.After != nil {
				gives -= ch.After.Size
			}
			r.returned[at.tree] += gives
			some = true
		}
		return nil
	})
	return some, err
}

// tight is a long file for which there was no room. It is not begun again while there is
// no more room than then and by its length it doesn't fit: its data would be fetched
// up to the same place and thrown away, at each attempt. By its length alone it may fit
// all the same, where the file system compresses.
type tight struct {
	want change.Digest // what was to be staged
	free uint64        // bytes that were free once it was given up
}

// tightMost bounds the files that are remembered.
const tightMost = 256

// lacked notes a file whose write failed for want of room.
func (r *room) lacked(b *building) {
	if r.a.o.Space == nil || b.how != stagedFull || b.node.Size < blockedMin {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tight = append(r.tight, b)
}

// remember keeps what was noted, when the incomplete files of the attempt are gone.
func (r *room) remember() {
	for _, b := range r.tight {
		free, _, err := r.a.o.Space(int(b.at.tree))
		if err != nil || len(r.a.tight) >= tightMost {
			continue
		}
		if r.a.tight == nil {
			r.a.tight = make(map[change.NodeID]tight)
		}
		r.a.tight[b.id] = tight{wanted(&b.node), free}
	}
}

// begin returns ErrNoRoom for a file that found no room in an earlier attempt and would
// find none now.
func (r *room) begin(tx *catalog.Tx, b *building) error {
	t, ok := r.a.tight[b.id]
	if !ok || b.how != stagedFull || t.want != wanted(&b.node) {
		return nil
	}
	need := dataOf(tx, b.id)
	r.mu.Lock()
	defer r.mu.Unlock()
	free, reserve, err := r.a.o.Space(int(b.at.tree))
	if err != nil || free >= t.free+need/16 {
		return nil
	}
	_, err = r.hold(b.at.tree, need, free, reserve)
	return err
}

// dataOf is how many bytes a file has but for its holes.
func dataOf(tx *catalog.Tx, id change.NodeID) (bytes uint64) {
	for ref := range tx.Refs(id, 0) {
		if !ref.Hole() {
			bytes += ref.Length
		}
	}
	return bytes
}

// checkAll looks whether there is room for all that the overlay needs, before any of
// it is staged.
func (a *Applier) checkAll(ctx context.Context) error {
	if a.o.Space == nil {
		return nil
	}
	s := &stager{
		a: a, ctx: ctx, pass: passFirst, measured: make([]uint64, len(a.trees)), results: &results{a: a},
		homes: make(map[change.NodeID]place), checked: make(map[change.NodeID]bool),
	}
	if err := a.catalog.ViewNext(s.walk); err != nil {
		return err
	}
	r := newRoom(a)
	for index, need := range s.measured {
		_, err := r.check(uint8(index), need)
		if noRoom(err) && need > 0 {
			if some, e := r.relent(ctx); e != nil || some {
				if _, err = r.check(uint8(index), need); e != nil {
					err = e
				}
			}
		}
		if err != nil && need > 0 {
			return err
		}
	}
	return nil
}

// noRoom reports whether err says that staging would have used what is to be kept free.
func noRoom(err error) bool { return errors.As(err, new(*ErrNoRoom)) }

// full reports whether err says that a file system or a quota is used up.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
