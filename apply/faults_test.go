package apply

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"repld/health"
	"repld/tree"
)

// kinds are the operations on a standby's tree, by whether a fault is injected into
// them. A new one must be put here.
var kinds = map[string]bool{
	"create": true, "mkdir": true, "symlink": true, "mknod": true, "link": true, "rename": true, "remove": true, "setmeta": true,
	"sync": true, "openwrite": true, "write": true, "truncate": true, "punchhole": true,
	"renamenoreplace": true,
	"lstat":           false, "stat": false, "readdir": false, "open": false, "read": false, "close": false,
}

// opOf are the methods that a [tree.Op] calls by another name.
var opOf = map[string]string{"readat": "read", "writeat": "write", "writeuncached": "write"}

// TestKindsOfOperations holds the list against the interfaces.
func TestKindsOfOperations(t *testing.T) {
	var found []string
	for _, i := range []reflect.Type{reflect.TypeFor[tree.FS](), reflect.TypeFor[tree.WriteFile]()} {
		for m := range i.NumMethod() {
			name := strings.ToLower(i.Method(m).Name)
			if op, ok := opOf[name]; ok {
				name = op
			}
			found = append(found, name)
		}
	}
	slices.Sort(found)
	if found, want := slices.Compact(found), slices.Sorted(maps.Keys(kinds)); !slices.Equal(found, want) {
		t.Errorf("a standby works by %q, faults are injected into %q", found, want)
	}
	for kind, injected := range kinds {
		if writes := (tree.Op{Name: kind}).Writes(); writes && !injected && kind != "close" && kind != "stat" {
			t.Errorf("%s writes, and no fault is injected into it", kind)
		}
	}
}

// failing fails operations of one kind from the n-th on, for as long as it is armed.
type failing struct {
	mu    sync.Mutex
	kind  string
	from  int
	cause error
	armed bool
	seen  int
}

func (f *failing) hook(op tree.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.armed || op.Name != f.kind {
		return nil
	}
	if f.seen++; f.seen < f.from {
		return nil
	}
	return fmt.Errorf("%s: %w", op, f.cause)
}

// TestEveryKindOfWriteFails has each kind of write fail with each error that a disk
// has, at its first and at a later occurrence, until the step has failed twice. When
// the cause is gone the same applier goes on, and the standby is at the barrier.
func TestEveryKindOfWriteFails(t *testing.T) {
	sc := newScenario(t)
	causes := []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EDQUOT}
	turn := 0
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		if !kinds[kind] {
			continue
		}
		for _, from := range []int{1, 5} {
			turn++ // each kind meets each cause
			f := &failing{kind: kind, from: from, cause: causes[turn%len(causes)]}
			fails(t, sc, f)
		}
	}
}

func fails(t *testing.T, sc *scenario, f *failing) {
	t.Helper()
	s := sc.standby(t)
	defer s.stop()
	s.reopen(f.hook, nil)
	f.armed = true
	for range 2 {
		err := s.Step(t.Context())
		if f.seen < f.from {
			if f.from == 1 {
				t.Errorf("the scenario has no %s", f.kind)
			}
			return
		}
		if !errors.Is(err, f.cause) {
			t.Fatalf("%s number %d fails with %v: the step ended with %v", f.kind, f.from, f.cause, err)
		}
		full := errors.Is(f.cause, syscall.ENOSPC) || errors.Is(f.cause, syscall.EDQUOT)
		if full != s.has(health.DiskLow) {
			t.Errorf("%s number %d fails with %v: conditions %v", f.kind, f.from, f.cause, s.board.List())
		}
	}
	f.mu.Lock()
	f.armed = false
	f.mu.Unlock()
	if err := s.Step(t.Context()); err != nil {
		t.Fatalf("%s number %d had failed with %v, and the cause is gone: %v", f.kind, f.from, f.cause, err)
	}
	t.Logf("%s number %d: %v", f.kind, f.from, f.cause)
	same(t, sc.p, s)
	noForeign(t, s)
}
