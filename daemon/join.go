package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"repld/change"
	"repld/control"
	"repld/dblog"
	"repld/health"
	"repld/ship"
)

// databaseStage is where a database is on its way from one side to the other. The words
// are stored.
type databaseStage string

const (
	stageNone    databaseStage = ""        // nothing is to be done
	stageServed  databaseStage = "served"  // this node has sent the database's stream
	stageJoining databaseStage = "joining" // what is here is to become a replica
	stageSeeding databaseStage = "seeding" // it was moved away: a replica is to be made from nothing
	stageReady   databaseStage = "ready"   // it is a replica, which is to be started
)

// databaseFile is a database's stage, in the group's directory databases/NAME.yaml.
type databaseFile struct {
	Stage databaseStage `yaml:"stage"`
	// Inode is that of the data directory which a seed began to fill: what is in it is
	// removed when the seed begins again.
	Inode uint64 `yaml:"inode,omitempty"`
	// Rests: the server was shut down because the node must not serve, and is started
	// before its services are.
	Rests bool `yaml:"rests,omitempty"`
}

func (g *group) databaseFile(name string) string {
	return groupFile(g.name, filepath.Join("databases", name+".yaml"))
}

func (g *group) loadStage(name string) (f databaseFile, err error) {
	_, err = g.node.state.load(g.databaseFile(name), &f)
	return f, err
}

func (g *group) storeStage(name string, f databaseFile) error {
	if err := os.MkdirAll(g.file("databases"), 0o700); err != nil {
		return err
	}
	return g.node.state.store(g.databaseFile(name), f)
}

// served notes that this node sends a database's stream: from now on what it has may be
// what the peer has not.
func (g *group) served(name string) error {
	return g.editStage(name, func(f *databaseFile) { f.Stage, f.Inode = stageServed, 0 })
}

// editStage changes what is stored of a database.
func (g *group) editStage(name string, edit func(*databaseFile)) error {
	g.stages.Lock()
	defer g.stages.Unlock()
	f, err := g.loadStage(name)
	was := f
	edit(&f)
	if err != nil || f == was {
		return err
	}
	return g.storeStage(name, f)
}

// takeBack forgets, before a database is opened on the standby, what the gate and the
// spool knew when this node was the standby before.
func (g *group) takeBack(name string) error {
	f, err := g.loadStage(name)
	if err != nil || f.Stage != stageServed {
		return err
	}
	for _, dir := range []string{"gates", spools, windows} {
		if err := os.RemoveAll(g.file(filepath.Join(dir, name))); err != nil {
			return err
		}
	}
	return g.storeStage(name, databaseFile{Stage: stageJoining})
}

// rejoinFile is what an operator has chosen for a rejoin, which joins an epoch.
type rejoinFile struct {
	Epoch           change.Epoch `yaml:"epoch"`
	DiscardDatabase bool         `yaml:"discard_database"`
}

// rejoinName is the name of the rejoinFile.
const rejoinName = "rejoin.yaml"

// discards reports whether an operator has said that old data directories need not be kept.
func (n *node) discards() (bool, error) {
	var f rejoinFile
	_, err := n.state.load(rejoinName, &f)
	return f.DiscardDatabase && f.Epoch == n.roles.now().Epoch.Number, err
}

// joinEvery is how often a former primary's database is tried again.
const joinEvery = 2 * time.Second

// joinSubject is the subject of a condition that says why a database isn't a replica yet.
func joinSubject(database string) string { return database + "/replica" }

var joinCodes = []health.Code{health.DatabaseNeedsSeed, health.DatabaseDown}

// join makes a replica of what a former primary has, and starts it.
func (r *replica) join(ctx context.Context, s *receiving) error {
	for {
		f, err := s.loadStage(r.conf.Name)
		if err == nil && (f.Stage == stageNone || f.Stage == stageServed) {
			s.joinTrouble(r.conf.Name, nil)
			r.joined()
			return nil
		}
		r.joining.Store(true)
		if err == nil {
			err = r.joinStep(ctx, s, f)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, errNotYet) {
			s.joinTrouble(r.conf.Name, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(joinEvery):
		}
	}
}

// errNotYet: what is waited for hasn't come, and nothing is wrong.
var errNotYet = errors.New("not yet")

// joinTrouble shows what keeps a database from being a replica, until nothing does (nil).
func (s *receiving) joinTrouble(database string, err error) {
	code := health.DatabaseNeedsSeed
	var down *startError
	if errors.As(err, &down) {
		code = health.DatabaseDown
	}
	for _, c := range joinCodes {
		if err == nil || c != code {
			s.board.Resolve(c, s.name, joinSubject(database))
		}
	}
	if err == nil {
		return
	}
	c := health.Condition{Code: code, Group: s.name, Subject: joinSubject(database),
		Text: fmt.Sprintf("database %s of this former production node isn't a replica yet: %v", database, err)}
	if e := control.AsError(err); e.Hint != "" {
		c.Hint = e.Hint
	}
	s.board.Raise(c)
}

// joinStep does what a stage asks for, and stores the next one.
func (r *replica) joinStep(ctx context.Context, s *receiving, f databaseFile) error {
	if r.conf.DataDir == "" && f.Stage != stageReady && !engines[r.conf.Engine].bare && !r.fed() {
		return control.Errorf(control.ExitUsage, "there is no data_dir in this node's configuration").
			WithHint("name the server's data directory with data_dir: and restart repld")
	}
	switch f.Stage {
	case stageJoining:
		return r.rejoin(ctx, s)
	case stageSeeding:
		if s.link() == nil {
			return errNotYet
		}
		return r.reseed(ctx, s, f)
	case stageReady:
		if _, connected := r.gate.Replayed(); !connected && !r.answers(ctx) {
			if err := s.startServer(ctx, r.conf); err != nil {
				if _, connected := r.gate.Replayed(); !connected {
					return err
				}
			}
		}
		return s.storeStage(r.conf.Name, databaseFile{})
	}
	return control.Errorf(control.ExitFailed, "stage %q of database %s is not known to this version", f.Stage, r.conf.Name)
}

// rejoin lets a server that was shut down cleanly follow. One that has what the peer
// has not is moved away.
func (r *replica) rejoin(ctx context.Context, s *receiving) error {
	within, cancel := context.WithTimeout(ctx, joinEvery)
	err := r.gate.Rejoin(within)
	cancel()
	name := r.conf.Name
	switch {
	case err == nil:
		// A barrier of the new primary may have been applied already.
		c, _ := s.applier.Applied()
		s.advance(c)
		s.event(control.EventDatabase, map[string]string{"database": name}, "database %s of this node follows the peer's, without a seed", name)
		return s.storeStage(name, databaseFile{Stage: stageReady})
	case errors.Is(err, dblog.ErrRunning):
		return s.stopServer(ctx, r.conf)
	case errors.Is(err, dblog.ErrNeedsSeed), errors.Is(err, context.DeadlineExceeded) && r.lost.Load():
		s.logger.Warn("a former production database needs a seed", "group", s.name, "database", name, "error", err)
		return r.setAside(s)
	case errors.Is(err, context.DeadlineExceeded):
		return errNotYet
	}
	return err
}

// setAside moves the data directory of a former primary away, and makes an empty one.
func (r *replica) setAside(s *receiving) error {
	dir, name := r.conf.DataDir, r.conf.Name
	if r.fed() {
		return r.leave(s)
	}
	st, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return s.storeStage(name, databaseFile{Stage: stageSeeding})
	}
	if err != nil {
		return err
	}
	discard, err := s.node.discards()
	switch {
	case err != nil:
		return err
	case discard:
		if err := emptyDir(dir); err != nil {
			return err
		}
		s.event(control.EventSalvaged, map[string]string{"database": name}, "the old data directory of database %s was discarded, as was ordered", name)
		return s.storeStage(name, databaseFile{Stage: stageSeeding, Inode: inode(st)})
	}
	if err := s.room(dir, name); err != nil {
		return err
	}
	kept := fmt.Sprintf("%s.kept-%s", dir, s.clock.Now().UTC().Format("20060102T150405"))
	if err := os.Rename(dir, kept); err != nil {
		return control.Errorf(control.ExitFailed, "the old data directory can't be kept: %w", err).
			WithHint("move what is in %s away by hand, or give it up: replctl rejoin --discard-database", dir)
	}
	s.tellKept("the old data directory", name, kept)
	return s.storeStage(name, databaseFile{Stage: stageSeeding})
}

// tellKept tells where it is that something of a database was put.
func (g *group) tellKept(what, database, path string) {
	g.event(control.EventSalvaged, map[string]string{"database": database, "kept": path}, "%s of database %s is kept as %s", what, database, path)
}

// forgetter is a gate that keeps what a former primary has, when that becomes a replica.
type forgetter interface {
	Discard() error // it need not be kept
}

// leave leaves what a former primary has to the gate of a server that is fed.
func (r *replica) leave(s *receiving) error {
	discard, err := s.node.discards()
	if err != nil {
		return err
	}
	if discard {
		if err := r.gate.(forgetter).Discard(); err != nil {
			return err
		}
		s.event(control.EventSalvaged, map[string]string{"database": r.conf.Name}, "what database %s had is discarded, as was ordered", r.conf.Name)
	}
	return s.storeStage(r.conf.Name, databaseFile{Stage: stageSeeding})
}

// room makes sure that a replica fits beside the old data directory.
func (s *receiving) room(dir, name string) error {
	var need int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			need += info.Size()
		}
		return nil
	})
	if err != nil {
		return err
	}
	free, reserve, _, err := s.space(filepath.Dir(dir))
	if err != nil {
		return err
	}
	if free < uint64(need)+reserve {
		return control.Errorf(control.ExitRefused, "its data directory %s takes %d bytes, and a replica does not fit beside it: %d bytes are free, and %d of them reserved",
			dir, need, free, reserve).WithState("no-room").
			WithHint("make room, or give the old directory up: replctl rejoin --discard-database")
	}
	return nil
}

func inode(st fs.FileInfo) uint64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Ino
	}
	return 0
}

// emptyDir removes what is in a directory.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// reseed makes a replica from nothing.
func (r *replica) reseed(ctx context.Context, s *receiving, f databaseFile) error {
	if !r.fed() {
		if err := r.clear(s, f); err != nil {
			return err
		}
	}
	if _, err := r.restore(ctx, s); err != nil {
		if errors.Is(err, ship.ErrNoSession) || s.link() == nil {
			return errNotYet
		}
		return err
	}
	return s.storeStage(r.conf.Name, databaseFile{Stage: stageReady})
}

// clear makes an empty data directory. What an attempt left there that broke off is removed.
func (r *replica) clear(s *receiving, f databaseFile) error {
	dir := r.conf.DataDir
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	switch {
	case err != nil:
		return err
	case len(entries) > 0 && f.Inode != inode(st):
		return control.Errorf(control.ExitRefused, "%s is not empty, and what is in it isn't this node's former database", dir).
			WithHint("move it away; the seed goes on by itself")
	case len(entries) > 0:
		if err := emptyDir(dir); err != nil {
			return err
		}
	}
	if f.Inode != inode(st) {
		return s.storeStage(r.conf.Name, databaseFile{Stage: stageSeeding, Inode: inode(st)})
	}
	return nil
}
