package pairtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Options are of a load.
type Options struct {
	Dir      string // the tree
	Database Database
	Seed     uint64
	// Writers work at once, numbered from First on. A writer's numbers must not be used
	// again after it was interrupted.
	Writers, First int
	Keep           int64         // operations of each writer that stay; 0 = 50
	Most           int           // files of an operation, at most; 0 = 3
	Every          time.Duration // from one operation of a writer to its next, at least; 0 = at once
	Rest           time.Duration // from the end of an operation of a writer to its next, at least
}

// Load are writers at work.
type Load struct {
	opts        Options
	draw        draw
	begun, done []atomic.Int64
	files, rows atomic.Int64 // that were written and removed
	step        sync.RWMutex // held for reading by each step of a writer
	stopping    atomic.Bool
	writers     sync.WaitGroup
	failed      atomic.Pointer[error]
}

// Start begins writing into the tables that [Database.Create] made.
func Start(ctx context.Context, o Options) (*Load, error) {
	l := &Load{opts: o, draw: drawOf(o.Seed, o.Keep, o.Most), begun: make([]atomic.Int64, o.Writers), done: make([]atomic.Int64, o.Writers)}
	for i := range o.Writers {
		for sub := range subdirs {
			if err := os.MkdirAll(filepath.Join(o.Dir, fmt.Sprintf("w%d/%d", o.First+i, sub)), 0o755); err != nil {
				return nil, err
			}
		}
	}
	for i := range o.Writers {
		l.writers.Go(func() {
			if err := l.write(ctx, i); err != nil {
				l.failed.CompareAndSwap(nil, &err)
			}
		})
	}
	return l, nil
}

// Stop lets the writers finish what they are doing, and returns the first error that
// interrupted one.
func (l *Load) Stop() error {
	l.stopping.Store(true)
	l.writers.Wait()
	return l.Err()
}

// Err returns the first error that interrupted a writer.
func (l *Load) Err() error {
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Hold stops all writers between two steps, wherever they are in an operation, until
// the returned function is called.
func (l *Load) Hold() (release func()) {
	l.step.Lock()
	return l.step.Unlock
}

// Done returns how many operations each writer has finished, Begun how many it has
// begun.
func (l *Load) Done() []int64 { return values(l.done) }

// Begun is told at [Load.Done].
func (l *Load) Begun() []int64 { return values(l.begun) }

func values(list []atomic.Int64) []int64 {
	out := make([]int64, len(list))
	for i := range list {
		out[i] = list[i].Load()
	}
	return out
}

// Asynchronous reports whether a writer commits asynchronously: a crash of its server
// takes back what it has committed last, and leaves its files.
func Asynchronous(writer int) bool { return writer%2 == 1 }

// Changes returns how many files were written and removed, and how many rows.
func (l *Load) Changes() (files, rows int64) { return l.files.Load(), l.rows.Load() }

// Total is the number of operations that were finished.
func (l *Load) Total() (n int64) {
	for _, v := range l.Done() {
		n += v
	}
	return n
}

func (l *Load) write(ctx context.Context, i int) error {
	writer := l.opts.First + i
	s, err := l.opts.Database.Session(ctx, Asynchronous(writer))
	if err != nil {
		return err
	}
	defer s.Close()
	var pace <-chan time.Time
	if l.opts.Every > 0 {
		ticker := time.NewTicker(l.opts.Every)
		defer ticker.Stop()
		pace = ticker.C
	}
	for n := int64(1); !l.stopping.Load(); n++ {
		o := l.draw.operation(writer, n)
		l.begun[i].Store(n)
		if err := l.do(ctx, s, o); err != nil {
			return fmt.Errorf("operation %d of writer %d: %w", n, writer, err)
		}
		l.done[i].Store(n)
		if pace != nil {
			<-pace
		}
		if l.opts.Rest > 0 {
			<-time.After(l.opts.Rest)
		}
	}
	return nil
}

// do does an operation, in steps.
func (l *Load) do(ctx context.Context, s Session, o *operation) error {
	changes := int64(len(o.contents))
	commit := func() error {
		err := s.Commit(ctx, o.rows(), o.writer, o.remove)
		if err == nil {
			l.rows.Add(changes)
		}
		return err
	}
	var files []func() error
	for k := range o.contents {
		files = append(files, func() error { return o.writeFile(l.opts.Dir, k) })
	}
	if o.remove > 0 {
		old := l.draw.operation(o.writer, o.remove)
		changes += int64(len(old.contents))
		for k := range old.contents {
			files = append(files, func() error { return os.Remove(filepath.Join(l.opts.Dir, fileName(o.writer, o.remove, k))) })
		}
	}
	steps := append(files, commit)
	if o.rowsFirst {
		steps = append([]func() error{commit}, files...)
	}
	for _, step := range steps {
		l.step.RLock()
		err := step()
		l.step.RUnlock()
		if err != nil {
			return err
		}
	}
	l.files.Add(changes)
	return nil
}
