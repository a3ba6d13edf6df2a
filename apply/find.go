package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize/english"

	"repld/apply/history"
	"repld/change"
	"repld/journal/catalog"
)

// ErrNotThere is a path that the state which was asked for does not have.
var ErrNotThere = errors.New("there is no such path")

// Version is what a path meant at a barrier, and at older ones up to the next
// version.
type Version struct {
	Barrier change.Certificate // the newest retained one with this version
	Present bool               // that is the applied one
	Kind    change.Kind        // 0: there was no such path
	Size    uint64             // bytes, of a file
	Mtime   change.Time
	Digest  change.Digest // of a file's content list; zero if it is empty
}

func (v *Version) same(w *Version) bool {
	return v.Kind == w.Kind && v.Size == w.Size && v.Mtime == w.Mtime && v.Digest == w.Digest
}

// Find returns the versions of a path, "tree/path", that the present state and the
// retained barriers have, newest first. Neighbouring barriers with equal ones count
// as one. The error is [ErrNotThere] if none has it.
func (a *Applier) Find(ctx context.Context, path string) ([]Version, error) {
	if err := a.acquire(ctx); err != nil {
		return nil, err
	}
	defer a.release()
	if a.past() == nil {
		return nil, ErrNoHistory
	}
	if err := a.finishPending(ctx); err != nil {
		return nil, err
	}
	cert, _ := a.Applied()
	if cert.ID.IsZero() || a.Seeding() {
		return nil, fmt.Errorf("nothing was applied yet: %w", ErrNeedsSeed)
	}
	steps := a.past().Steps()
	var out []Version
	there := false
	err := a.catalog.View(func(base *catalog.Tx) error {
		return a.past().At(history.Present, base, func(p *history.Past) error {
			for i := len(steps); i >= 0; i-- {
				v := Version{Barrier: cert, Present: i == len(steps)}
				if !v.Present {
					if steps[i].Hidden {
						continue
					}
					v.Barrier = steps[i].Before
					p.Step(steps[i].Number)
				}
				if err := versionOf(p, path, &v); err != nil {
					return err
				}
				there = there || v.Kind != 0
				if n := len(out); n == 0 || !out[n-1].same(&v) {
					out = append(out, v)
				}
			}
			return ctx.Err()
		})
	})
	if err == nil && !there {
		err = fmt.Errorf("%w: %q, in none of %s", ErrNotThere, path, english.Plural(len(a.Retained())+1, "barrier", ""))
	}
	return out, err
}

func versionOf(p *history.Past, path string, v *Version) error {
	id, ok := resolve(p, path)
	if !ok {
		return nil
	}
	n, ok, err := p.Node(id)
	if err != nil || !ok {
		return err
	}
	v.Kind, v.Mtime = n.Kind, n.Meta.Mtime
	if n.Kind == change.KindFile {
		v.Size, v.Digest = n.Size, n.Content
	}
	return nil
}

// resolve returns the node of "tree/path" in a former state.
func resolve(p *history.Past, path string) (change.NodeID, bool) {
	id := change.GroupNode
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		var ok bool
		if id, ok = p.Lookup(id, name); !ok {
			return 0, false
		}
	}
	return id, true
}
