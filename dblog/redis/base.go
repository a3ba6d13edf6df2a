package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"repld/change"
	"repld/dblog"
	"repld/durable"
	"repld/health"
)

// Unfinished bases.
const (
	fromSeed    = "seed.tmp"
	fromReplica = "renew.tmp"
)

// basePath is where the base of a state lies.
func (g *Gate) basePath(st gateState) string {
	return filepath.Join(g.opts.Dir, fmt.Sprintf("base-%d-%d.rdb", st.Of, st.Base))
}

// tidy removes the bases that aren't the state's.
func (g *Gate) tidy() error {
	entries, err := os.ReadDir(g.opts.Dir)
	for _, e := range entries {
		path := filepath.Join(g.opts.Dir, e.Name())
		old := strings.HasPrefix(e.Name(), "base-") && strings.HasSuffix(e.Name(), ".rdb") && path != g.basePath(g.state)
		if old {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// Restore implements [dblog.Joiner]: it takes the RDB file of a backup. The server itself
// may run; it must be without keys unless it was ours.
func (g *Gate) Restore(ctx context.Context, r io.Reader) error {
	if err := g.vacant(ctx); err != nil {
		return err
	}
	return writeRDB(filepath.Join(g.opts.Dir, fromSeed), func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// vacant refuses a server that holds somebody's keys.
func (g *Gate) vacant(ctx context.Context) error {
	g.mu.Lock()
	ours := g.state.seeded() || g.state.Adopt
	g.mu.Unlock()
	if ours {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var is info
	err := g.admin.with(ctx, func(c *connection) (err error) {
		is, err = ask(c, "keyspace", "replication")
		return err
	})
	if err != nil {
		return nil //nolint:nilerr // it isn't up yet; before it becomes a replica its keys are kept
	}
	if n := is.keys(); n > 0 && !is.replica() {
		return fmt.Errorf("%w: the one at %s has %d keys, and a replica is made of one without: FLUSHALL there if nobody needs them", dblog.ErrOccupied, g.at.at, n)
	}
	return nil
}

// writeRDB makes a file, durably, and makes sure that it is what it should be; Redis
// itself checks its sum when it loads it.
func writeRDB(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	head := make([]byte, len(rdbMagic))
	if _, err := f.ReadAt(head, 0); err != nil || string(head) != rdbMagic {
		return fmt.Errorf("what came is no RDB file: it begins with %q, want %q", head, rdbMagic)
	}
	return f.Sync()
}

const rdbMagic = "REDIS"

// Seeded implements [dblog.Joiner]: the gate closes, and opens with the first point at or
// behind the backup.
func (g *Gate) Seeded(tail []byte) error {
	var made backup
	if err := json.Unmarshal(tail, &made); err != nil {
		return fmt.Errorf("the tail of the backup: %w", err)
	}
	if made.Chapter == 0 || made.ID == "" || made.Next == 0 {
		return fmt.Errorf("the tail of the backup is %q, want a replication id and its number", tail)
	}
	g.releasing.Lock()
	defer g.releasing.Unlock()
	g.mu.Lock()
	old, session := g.state, g.session
	g.mu.Unlock()
	st := gateState{
		Chapter: made.Chapter, Of: made.Chapter, ID: made.ID, Base: made.Next, Floor: made.Next, Point: true, Full: true,
		Adopt: old.Adopt, Discard: old.Discard, Run: old.Run, Timeout: old.Timeout, Former: made.Former, FormerNext: made.FormerNext,
	}
	if err := g.adopt(st, fromSeed); err != nil {
		return err
	}
	g.mu.Lock()
	g.lost, g.parted = "", ""
	g.trouble.Forget(health.DatabaseNeedsSeed, health.DatabaseAhead)
	g.announce()
	g.mu.Unlock()
	g.opts.Spool.SetFloor(change.StreamPosition{})
	if session != nil {
		session.Close()
	}
	return nil
}

// adopt makes a file the base of st, and st the state; with g.releasing held.
func (g *Gate) adopt(st gateState, file string) error {
	if err := os.Rename(filepath.Join(g.opts.Dir, file), g.basePath(st)); err != nil {
		return err
	}
	if err := durable.SyncDir(g.opts.Dir); err != nil {
		return err
	}
	if err := g.save(st); err != nil {
		return err
	}
	return g.tidy()
}

// renewDue reports whether so much was streamed since the base that it is to be made anew.
func (g *Gate) renewDue() bool {
	g.mu.Lock()
	st, ready := g.state, g.session != nil && g.known && g.lost == ""
	g.mu.Unlock()
	if !ready || !st.Open || st.Promoted || st.Full || st.Point {
		return false
	}
	after := g.opts.RenewAfter
	if after == 0 {
		after = 64 << 20
		if about, err := os.Stat(g.basePath(st)); err == nil {
			after = max(after, about.Size())
		}
		after = min(after, g.opts.Spool.Limit()/4)
	}
	return int64(st.Gate-st.Base) >= after
}

// renew has the replica write down what it has, and makes that the base: the stream before
// it isn't needed any more.
func (g *Gate) renew(ctx context.Context) error {
	g.mu.Lock()
	from := g.state
	g.mu.Unlock()
	var at uint64
	err := writeRDB(filepath.Join(g.opts.Dir, fromReplica), func(w io.Writer) error {
		err := copySnapshot(ctx, g.at, w, func(id string, next uint64) error {
			if id != from.ID || next < from.Base {
				return fmt.Errorf("it is at byte %d of the replication id %s, want %d or more of %s", next, id, from.Base, from.ID)
			}
			at = next
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("the replica's RDB file: %w", err)
	}
	g.releasing.Lock()
	defer g.releasing.Unlock()
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	if st.Chapter != from.Chapter || st.Floor != from.Floor || st.Promoted || !st.Open || at > st.Gate {
		return fmt.Errorf("%w: the replica's RDB file is of %d, and the gate is at %d of another stream", dblog.ErrNotReached, at, st.Gate)
	}
	st.Of, st.Base = st.Chapter, at
	if err := g.adopt(st, fromReplica); err != nil {
		return err
	}
	g.opts.Logger.Info("the replica's base was made anew", "database", g.opts.Name, "offset", at-1)
	return g.opts.Spool.Free(st.kept())
}

// keepKeys puts the keys of a server aside that becomes a replica, and returns where.
func (g *Gate) keepKeys(ctx context.Context) (string, error) {
	path := filepath.Join(g.opts.Home, fmt.Sprintf("kept-%s.rdb", time.Now().UTC().Format("20060102T150405")))
	err := writeRDB(path+".tmp", func(w io.Writer) error {
		return copySnapshot(ctx, g.at, w, func(string, uint64) error { return nil })
	})
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err == nil {
		err = durable.SyncDir(g.opts.Home)
	}
	if err != nil {
		_ = os.Remove(path + ".tmp") // it is of no use
		return "", fmt.Errorf("the keys that the server has can't be kept: %w", err)
	}
	return path, nil
}

// Discard says that the keys which the server has need not be kept when it becomes a
// replica.
func (g *Gate) Discard() error {
	return g.update(func(st *gateState) { st.Discard = true })
}

// Rejoin implements [dblog.Joiner]. What a former primary has is given up for what the
// present one has: a replica of Redis begins with all keys anyway.
func (g *Gate) Rejoin(context.Context) error {
	g.mu.Lock()
	replica := g.state.seeded()
	g.mu.Unlock()
	if replica {
		return nil
	}
	if err := g.update(func(st *gateState) { st.Adopt = true }); err != nil {
		return err
	}
	return fmt.Errorf("%w: a former primary gets all keys of the present one", dblog.ErrNeedsSeed)
}
