package journal_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"repld/journal"
	"repld/journal/journaltest"
)

// kinds are the operations of a disk, in the words of [journaltest.Op], by whether
// they write. A new one must be put here, and is injected then.
var kinds = map[string]bool{
	"create": true, "remove": true, "rename": true, "syncdir": true, "write": true, "truncate": true, "sync": true,
	"open": false, "list": false, "read": false, "size": false, "close": false,
}

// TestKindsOfOperations holds the list against the interfaces.
func TestKindsOfOperations(t *testing.T) {
	var found []string
	for _, i := range []reflect.Type{reflect.TypeFor[journal.Disk](), reflect.TypeFor[journal.File]()} {
		for m := range i.NumMethod() {
			found = append(found, strings.ToLower(strings.TrimSuffix(i.Method(m).Name, "At")))
		}
	}
	slices.Sort(found)
	if want := slices.Sorted(maps.Keys(kinds)); !slices.Equal(found, want) {
		t.Errorf("the log works by %q, faults are injected into %q", found, want)
	}
}

// TestEveryWriteFails lets each single write of a history fail, with one or another
// error that a disk has, opens the log anew when the cause is gone, and wants everything that
// was durable, and that it goes on from there.
func TestEveryWriteFails(t *testing.T) {
	hit := map[string]bool{}
	causes := []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS}
	for n, failed := 1, true; failed; n++ {
		var kind string
		if kind, failed = failsOnce(t, n, causes[n%len(causes)]); failed {
			hit[kind] = true
		}
	}
	for kind, writes := range kinds {
		if writes && !hit[kind] {
			t.Errorf("no %s failed in this history", kind)
		}
	}
}

// failsOnce runs a history whose n-th write fails; it is false if there are fewer.
func failsOnce(t *testing.T, n int, cause error) (kind string, failed bool) {
	t.Helper()
	h := &history{t: t, rng: rand.New(rand.NewPCG(1, 7)), disk: &journaltest.Disk{}}
	left := n
	h.disk.SetFault(func(op journaltest.Op) error {
		if kinds[op.Kind] {
			if left--; left == 0 {
				kind = op.Kind
				return cause
			}
		}
		return nil
	})
	l, err := journal.Open("memory", journal.Options{Disk: h.disk, SegmentSize: 2000, Buffer: 300})
	if err == nil {
		h.log = l
		for range 30 {
			if err = h.step(); err != nil || left <= 0 {
				break
			}
		}
	}
	if left > 0 {
		return "", false
	}
	if err != nil && !errors.Is(err, cause) {
		t.Fatalf("write %d, a %s, failed with %v: found %v", n, kind, cause, err)
	}
	h.disk.SetFault(nil)
	if l != nil {
		l.Close()
	}
	h.open() // checks what is there
	for range 5 {
		if err := h.step(); err != nil {
			t.Fatalf("after write %d, a %s, had failed: %v", n, kind, err)
		}
	}
	if err := h.log.Close(); err != nil {
		t.Fatal(err)
	}
	h.model.synced = h.model.end().Offset
	h.open()
	return kind, true
}
