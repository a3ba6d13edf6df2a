package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"repld/apply/history"
	"repld/change"
	"repld/health"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
)

// Applier keeps a standby's trees at barriers. See the package doc.
type Applier struct {
	o       Options
	trees   []Tree
	log     *journal.Log
	catalog *catalog.Catalog
	clock   change.Clock
	logger  *slog.Logger
	scratch *scratch

	turn chan struct{} // holds one token: whoever has it may work on the trees
	wake chan struct{} // Run should look again

	progress progress

	// The history, nil if none is kept, and its clock, which belongs to whoever has
	// the turn.
	kept    atomic.Pointer[history.DB]
	lived   time.Duration // the history's age when it was opened
	born    time.Duration // the monotonic clock then
	reached time.Duration // when the applied barrier was published
	planned bool          // a step was begun that didn't happen yet
	torn    bool          // something could not be kept
	watch   watchman
	// pins are barriers whose state somebody looks at.
	pins map[change.BarrierID]int
	// unfolded is a hidden step whose entries still repeat those of older ones.
	unfolded uint64

	// ahead: all that the overlay needs is staged, by this process. It belongs to
	// whoever has the turn.
	ahead bool
	// ceiling is the log offset from which on Settle looks at no barrier; 0 means none.
	// It belongs to it, too.
	ceiling uint64
	// tight are files that found no room in earlier attempts. They belong to it, too.
	tight map[change.NodeID]tight

	mu       sync.Mutex
	limits   Limits
	applied  point
	cert     change.Certificate
	seed     *seedState // nil: the trees are at applied
	paused   bool
	frozen   bool
	rewound  *point     // the newest applied barrier if the trees are at an older one
	halted   *guardHalt // what the guard stopped
	judging  sync.Mutex // held while halted is looked at and changed; before mu
	accepted bool       // the operator lets a halted seed go on
	foreign  foreignFinds
	// foreignTotal counts all finds, also those that somebody looked at.
	foreignTotal uint64
	suspicious   bool             // publishing had to leave something undone
	lacks        change.BarrierID // see Lacks
	passed       change.BarrierID // see Passed
	rejected     bool             // the log does not fit what is here: only a base helps
	denied       map[string]bool  // what couldn't be set for want of privilege
}

// Names below the directory of our own.
const (
	stageDir   = "stage"
	salvageDir = "salvage"
)

// Open makes an applier and finishes a barrier that was committed before the
// last stop. It may therefore take as long as publishing does.
func Open(o Options) (*Applier, error) {
	if o.Log == nil || o.Catalog == nil || o.Fetch == nil || o.Dir == "" || len(o.Trees) == 0 || len(o.Trees) > 255 {
		return nil, errors.New("an applier needs a log, a catalog, a fetcher, a directory and 1 to 255 trees")
	}
	if o.Clock == nil {
		o.Clock = change.SystemClock()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.RedoMin == 0 {
		o.RedoMin = 8 << 20
	}
	a := &Applier{
		o: o, trees: o.Trees, log: o.Log, catalog: o.Catalog, clock: o.Clock, logger: o.Logger,
		turn: make(chan struct{}, 1), wake: make(chan struct{}, 1), denied: make(map[string]bool),
		pins: make(map[change.BarrierID]int),
	}
	a.turn <- struct{}{}
	a.limits = Limits{o.History, o.Guard}.withDefaults()
	var err error
	if a.scratch, err = openScratch(o.Dir); err != nil {
		return nil, err
	}
	if err := a.start(); err != nil {
		err = a.scratch.condemn(err)
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *Applier) start() error {
	for i := range a.trees {
		dirs := []string{salvageDir, stageDir}
		for n := range uint64(stageShards) {
			dirs = append(dirs, strings.TrimSuffix(stageShard(n), "/"))
		}
		for _, dir := range dirs {
			if err := a.trees[i].FS.Mkdir(tree.InOwn(dir)); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make the staging directory: %w", err)
			}
		}
	}
	if err := a.catalog.Claim(a.o.Epoch); err != nil {
		return err
	}
	if err := a.load(); err != nil {
		return err
	}
	if err := a.openHistory(); err != nil {
		return fmt.Errorf("open the history: %w", err)
	}
	c, err := a.scratch.commit()
	if err != nil {
		return err
	}
	if c != nil {
		a.logger.Info("finishing a barrier that was committed before the last stop", "barrier", c.id)
		err = a.finish(context.Background(), c)
	} else if err = a.dropStaleTravel(); err == nil {
		err = a.tidyStage()
	}
	if err != nil {
		return err // the plan of a commit that isn't finished has to stay
	}
	if err := a.settleHistory(); err != nil {
		return a.renewHistory(err)
	}
	if halted := a.Halted(); halted != nil {
		a.raiseHalt(halted)
	}
	return nil
}

// load reads the applier's state from the catalog.
func (a *Applier) load() error {
	var seed *seedState
	err := a.catalog.ViewNext(func(tx *catalog.Tx) (err error) { // a base is in the overlay until it is published
		seed, err = loadSeed(tx)
		return err
	})
	if err != nil {
		return err
	}
	return a.catalog.View(func(tx *catalog.Tx) error {
		applied, ok, err := getPoint(tx, stateApplied)
		if err != nil {
			return fmt.Errorf("state of the applied barrier: %w", err)
		}
		paused := tx.Get(statePaused) != nil
		a.mu.Lock()
		defer a.mu.Unlock()
		a.applied, a.paused, a.seed, a.cert = applied, paused, seed, change.Certificate{}
		a.suspicious = tx.Get(stateSuspect) != nil
		a.loadGuard(tx)
		a.rewound = nil
		if origin, ok, err := getPoint(tx, stateRewound); err != nil {
			return fmt.Errorf("state of a rewind: %w", err)
		} else if ok {
			a.rewound = &origin
		}
		if ok {
			b, ok, err := tx.Barrier(applied.id)
			if err != nil {
				return err
			}
			if ok {
				a.cert = b.Certificate
			}
		}
		return nil
	})
}

// Close releases the scratch file. Nothing may run any more.
func (a *Applier) Close() error {
	err := a.scratch.close()
	if a.past() != nil {
		err = errors.Join(err, a.past().Close())
	}
	return err
}

// Applied returns the applied barrier and the position of the log after it; zero
// values if there is none yet.
func (a *Applier) Applied() (change.Certificate, change.LogPosition) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cert, a.applied.end
}

// NeedsSeed reports whether a base must come before the log can be applied.
func (a *Applier) NeedsSeed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rejected || a.applied.id.IsZero() && a.seed == nil
}

// Seeding reports whether a base was imported and isn't published yet.
func (a *Applier) Seeding() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seed != nil
}

// Paused reports whether applying is paused.
func (a *Applier) Paused() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.paused
}

// Pause stops applying, and returns once a barrier that was being published is; the
// log may still be appended to. It holds over a restart, also if ctx ends first.
func (a *Applier) Pause(ctx context.Context) error {
	if err := a.setPaused(true); err != nil {
		return err
	}
	if err := a.acquire(ctx); err != nil {
		return err
	}
	a.release()
	return nil
}

// Freeze stops applying until the applier is closed: the trees stay at the barrier
// that they are at, which is returned. It waits for one that is being published.
func (a *Applier) Freeze(ctx context.Context) (change.Certificate, error) {
	if err := a.acquire(ctx); err != nil {
		return change.Certificate{}, err
	}
	defer a.release()
	if err := a.finishPending(ctx); err != nil {
		return change.Certificate{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.frozen = true
	return a.cert, nil
}

// Resume ends a pause; rewound trees go forward again. accept lets a halted seed
// ([ErrSeedHalted]) go on, and of what the guard halted ([ErrGuardHalted]) exactly
// the state that was looked at last.
func (a *Applier) Resume(accept bool) error {
	if accept {
		a.mu.Lock()
		a.accepted = true
		a.mu.Unlock()
		if err := a.acceptHalt(); err != nil {
			return err
		}
	}
	a.forgetForeign()
	return a.setPaused(false)
}

func (a *Applier) setPaused(paused bool) error {
	var v []byte
	if paused {
		v = []byte{1}
	}
	if err := a.putState(statePaused, v); err != nil {
		return err
	}
	a.mu.Lock()
	a.paused = paused
	a.mu.Unlock()
	a.Notify()
	return nil
}

// putState writes into the base of the catalog, whatever the overlay holds.
func (a *Applier) putState(key string, v []byte) error {
	return a.catalog.Update(func(tx *catalog.Tx) error { return tx.Put(key, v) })
}

// Notify says that the log holds a new durable barrier, or that the peer is back.
// It never blocks.
func (a *Applier) Notify() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// acquire waits for the right to work on the trees.
func (a *Applier) acquire(ctx context.Context) error {
	select {
	case <-a.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Applier) release() { a.turn <- struct{}{} }

// at is called at the named points.
func (a *Applier) at(point string) error {
	if a.o.Hook == nil {
		return nil
	}
	if err := a.o.Hook(point); err != nil {
		return fmt.Errorf("stopped at %q: %w", point, err)
	}
	return nil
}

// raise reports standing trouble.
func (a *Applier) raise(code health.Code, format string, args ...any) {
	if a.o.Board != nil {
		a.o.Board.Raise(health.Condition{Code: code, Group: a.o.Group, Text: fmt.Sprintf(format, args...)})
	}
}

func (a *Applier) resolve(codes ...health.Code) {
	if a.o.Board == nil {
		return
	}
	for _, code := range codes {
		a.o.Board.Resolve(code, a.o.Group, "")
	}
}

// retryFirst and retryMost bound the time between two attempts after an error.
const (
	retryFirst = 500 * time.Millisecond
	retryMost  = 30 * time.Second
)

// retryTell is the time between two attempts from which on failing counts as standing
// trouble: a link that breaks ends an attempt too.
const retryTell = 4 * retryFirst

// raiseStalled reports an error that recurs and has no condition of its own.
func (a *Applier) raiseStalled(err error) {
	if short(err) || errors.Is(err, ErrIncomplete) || errors.Is(err, tree.ErrRootReplaced) {
		return
	}
	a.raise(health.BarrierLate, "no barrier can be applied, it is tried again and again: %v", err)
}

// Run applies barriers as they come, until ctx ends. After an error it tries
// again, later and later; while a base is needed it waits for [Applier.Seed]. It
// returns early for what only opening everything anew mends: [ErrScratch], a damaged
// catalog, a log that is damaged or failed, and for an epoch that is over (catalog.ErrEpoch).
func (a *Applier) Run(ctx context.Context) error {
	a.Notify()
	wait := retryFirst
	var retry <-chan time.Time
	tend := time.NewTicker(tendEvery)
	defer tend.Stop()
	var look <-chan time.Time
	if a.o.ForeignScan > 0 {
		look = time.After(a.watchPause())
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tend.C:
			tend.Reset(a.tend(ctx))
			continue
		case <-look:
			if _, err := a.LookAround(ctx); err != nil && ctx.Err() == nil {
				a.logger.Warn("the trees could not be looked at", "error", err)
			}
			look = time.After(a.watchPause())
			continue
		case <-a.wake:
		case <-retry:
		}
		retry = nil
		err := a.Step(ctx)
		switch {
		case err == nil:
			wait = retryFirst
			a.resolve(health.BarrierLate)
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrScratch), errors.Is(err, catalog.ErrDamaged), errors.Is(err, catalog.ErrEpoch), errors.Is(err, journal.ErrDamaged), errors.Is(err, journal.ErrFailed):
			return err
		case errors.As(err, new(*ErrGuardHalted)):
			wait = retryFirst // the operator, or another barrier, ends it
			continue
		case a.NeedsSeed():
			a.logger.Error("the standby can't go on from what it has", "error", err)
			wait = retryFirst
			continue
		}
		if errors.Is(err, change.ErrNoPeer) {
			wait = retryFirst // the next session ends it
			continue
		}
		a.logger.Warn("a barrier could not be applied", "error", err, "retry in", wait)
		if wait >= retryTell {
			a.raiseStalled(err)
		}
		retry = time.After(wait)
		wait = min(2*wait, retryMost)
	}
}
