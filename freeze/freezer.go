package freeze

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Options are those of a Freezer.
type Options struct {
	// Group is the path of the control group in its hierarchy, as in /proc/PID/cgroup:
	// "/system.slice/sounz.service".
	Group string
	// Max is how long the group may be frozen; 0 means 50 ms.
	Max time.Duration
	// Mark is a file that names the group while it is frozen, for [Recover].
	Mark string
	// Watchdog is the command that runs [Watch].
	Watchdog []string
}

// Freezer freezes a control group now and then.
type Freezer struct {
	opts Options
	mu   sync.Mutex // held while the group is frozen
	dog  *watchdog
}

// New returns a freezer. The group need not be there yet.
func New(o Options) *Freezer {
	if o.Max == 0 {
		o.Max = 50 * time.Millisecond
	}
	return &Freezer{opts: o}
}

// Check returns why the group can't be frozen, nil if it seems that it can.
func (f *Freezer) Check() error {
	dir, err := Find(f.opts.Group)
	if err != nil {
		return err
	}
	f.turn().Lock()
	defer f.turn().Unlock()
	return unfrozen(dir)
}

// Close ends the watchdog. Nothing must be frozen.
func (f *Freezer) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dismiss()
}

func (f *Freezer) dismiss() error {
	if f.dog == nil {
		return nil
	}
	err := f.dog.end()
	f.dog = nil
	return err
}

// Frozen is a group that stands still, until Thaw is called or its time is over.
type Frozen struct {
	of    *Freezer
	dir   string
	begun time.Time
	ended time.Duration
	over  bool
}

// inTurn has the freezers of one group in this process wait for each other.
var inTurn sync.Map // path of the group → *sync.Mutex

func (f *Freezer) turn() *sync.Mutex {
	turn, _ := inTurn.LoadOrStore(f.opts.Group, new(sync.Mutex))
	return turn.(*sync.Mutex)
}

// Freeze returns once no process of the group runs; an error says that all of them
// do. The caller thaws. Another Freezer's freeze of the same group is waited for.
func (f *Freezer) Freeze() (*Frozen, error) {
	f.mu.Lock()
	f.turn().Lock()
	z, err := f.freeze()
	if err != nil {
		f.turn().Unlock()
		f.mu.Unlock()
		return nil, err
	}
	return z, nil
}

func (f *Freezer) freeze() (*Frozen, error) {
	dir, err := Find(f.opts.Group)
	if err != nil {
		return nil, err
	}
	if err := unfrozen(dir); err != nil {
		return nil, err
	}
	if f.dog == nil {
		if f.dog, err = startWatchdog(f.opts.Watchdog); err != nil {
			return nil, fmt.Errorf("%w: its watchdog can't be started: %w", ErrNone, err)
		}
	}
	if err := os.WriteFile(f.opts.Mark, []byte(f.opts.Group+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("%w: what is frozen can't be noted: %w", ErrNone, err)
	}
	if err := f.dog.arm(dir, f.opts.Max); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: its watchdog does not work: %w", ErrNone, err), f.dismiss(), os.Remove(f.opts.Mark))
	}
	z := &Frozen{of: f, dir: dir, begun: time.Now()}
	if err = set(dir, true); err == nil {
		err = z.await(f.opts.Max / 2)
	} else {
		err = fmt.Errorf("%w: %w", ErrNone, err)
	}
	if err != nil {
		return nil, errors.Join(err, z.release())
	}
	return z, nil
}

// spinFor is how long the state of a group is read without a pause: a sleep of the
// shortest kind takes a millisecond.
const spinFor = 2 * time.Millisecond

// await waits until the group is frozen.
func (z *Frozen) await(limit time.Duration) error {
	events, err := os.Open(filepath.Join(z.dir, eventsFile))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNone, err)
	}
	defer events.Close()
	for {
		frozen, err := isFrozen(events)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNone, err)
		}
		since := time.Since(z.begun)
		switch {
		case frozen:
			return nil
		case since > limit:
			return fmt.Errorf("%w: after %v one of them still runs, or waits for a disk", ErrStubborn, since.Round(time.Millisecond))
		case since < spinFor:
			runtime.Gosched()
		default:
			<-time.After(100 * time.Microsecond)
		}
	}
}

// isFrozen reads the state of a group from its events.
func isFrozen(events *os.File) (bool, error) {
	var buf [128]byte
	n, err := events.ReadAt(buf[:], 0)
	if n == 0 && err != nil {
		return false, err
	}
	return strings.Contains(string(buf[:n]), "frozen 1"), nil
}

// Still reports whether the group has been frozen all the time since Freeze returned.
func (z *Frozen) Still() bool {
	events, err := os.Open(filepath.Join(z.dir, eventsFile))
	if err != nil {
		return false
	}
	defer events.Close()
	frozen, err := isFrozen(events)
	return err == nil && frozen && !z.over
}

// Thaw lets the group go on, and returns how long it stood still; [ErrOverrun] if the
// watchdog had to end that. It does nothing the second time.
func (z *Frozen) Thaw() (stood time.Duration, err error) {
	if z.over {
		return z.ended, nil
	}
	defer z.of.mu.Unlock()
	defer z.of.turn().Unlock()
	err = z.release()
	return z.ended, err
}

// release thaws the group and tells the watchdog so.
func (z *Frozen) release() error {
	z.over = true
	thawed := set(z.dir, false)
	if errors.Is(thawed, fs.ErrNotExist) || isGone(thawed) {
		thawed = nil // the group has ended
	}
	z.ended = time.Since(z.begun)
	f := z.of
	late, err := f.dog.done()
	switch {
	case err != nil:
		// It thaws by itself when its pipe closes.
		err = errors.Join(fmt.Errorf("the watchdog of the freeze: %w", err), f.dismiss())
	case late > 0:
		z.ended = min(z.ended, late)
		err = fmt.Errorf("%w: %v, the limit is %v", ErrOverrun, z.ended.Round(time.Millisecond), f.opts.Max)
	}
	if thawed != nil {
		return errors.Join(fmt.Errorf("thaw %s: %w", z.dir, thawed), err) // the mark stays
	}
	return errors.Join(err, os.Remove(f.opts.Mark))
}

// Recover thaws what a former process has left frozen. It returns the group, "" if
// there is none.
func Recover(mark string) (group string, err error) {
	text, err := os.ReadFile(mark)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	group = strings.TrimSpace(string(text))
	dir, err := system.dir(group)
	if err == nil && group != "" {
		err = set(dir, false)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !isGone(err) && !errors.Is(err, ErrNone) {
		return group, fmt.Errorf("thaw %s: %w", group, err)
	}
	return group, os.Remove(mark)
}

// unfrozen returns an error if somebody has frozen the group.
func unfrozen(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, freezeFile))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNone, err)
	}
	if strings.TrimSpace(string(text)) != "0" {
		return fmt.Errorf("%w: %s is %s", ErrOthers, filepath.Join(dir, freezeFile), strings.TrimSpace(string(text)))
	}
	return nil
}

// set freezes or thaws the group at dir.
func set(dir string, frozen bool) error {
	f, err := os.OpenFile(filepath.Join(dir, freezeFile), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f, frozen), f.Close())
}

func write(f *os.File, frozen bool) error {
	value := "0"
	if frozen {
		value = "1"
	}
	_, err := f.WriteAt([]byte(value), 0)
	return err
}
