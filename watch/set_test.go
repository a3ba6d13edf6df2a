package watch

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func TestSetCoalesces(t *testing.T) {
	var s Set
	k := Key{0, "d", "f"}
	s.AddIno(k, Content, 5, 7)
	s.Add(k, Meta, 3)
	it, ok := s.Get(k)
	if !ok || it.What != Content|Meta || it.Last != 5 || it.Ino != 7 || s.Len() != 1 {
		t.Fatalf("item %+v, len %d", it, s.Len())
	}
	s.Add(k, Entry, 9)
	if it, _ := s.Get(Key{Dir: "d"}); it.What != Meta || it.Last != 9 {
		t.Fatalf("an entry must mark its directory's metadata: %+v", it)
	}
	s.Add(k, Subtree|Entry, 11)
	if it, _ := s.Get(Key{Dir: "d/f"}); it.What != Subtree {
		t.Fatalf("a subtree belongs to the directory: %+v", it)
	}
	for k := range s.All() {
		s.Delete(k)
	}
	if s.Len() != 0 || len(s.dirs) != 0 {
		t.Fatalf("%d items, %d directories after deleting all", s.Len(), len(s.dirs))
	}
	s.Add(k, Entry, 12) // the cached directory must not outlive its deletion
	if s.Len() != 2 {
		t.Fatalf("len %d", s.Len())
	}
}

func TestSetKeepsReplacedObjects(t *testing.T) {
	var s Set
	s.AddIno(Key{0, "", "a"}, Content, 1, 5)
	s.AddIno(Key{0, "", "a"}, Entry, 2, 6) // something else was renamed over it
	if it, ok := s.objects[Object{0, 5}]; !ok || it.What != Content {
		t.Fatalf("objects %+v", s.objects)
	}
}

func TestSetCovers(t *testing.T) {
	var s Set
	s.Add(Key{0, "sub/tree", ""}, Subtree, 1)
	s.Add(Key{0, "names", ""}, Names, 1)
	s.Add(Key{0, "", "file"}, Content, 1)
	for _, c := range []struct {
		key  Key
		want bool
	}{
		{Key{0, "", "file"}, true}, {Key{0, "", "other"}, false}, {Key{1, "", "file"}, false},
		{Key{0, "sub/tree", "x"}, true}, {Key{0, "sub/tree/a/b", "x"}, true}, {Key{0, "sub", "tree"}, true},
		{Key{0, "sub", "x"}, false}, {Key{0, "sub/treetop", "x"}, false},
		{Key{0, "names", "x"}, true}, {Key{0, "names", ""}, true}, {Key{0, "names/deeper", "x"}, false}, {Key{0, "", "names"}, true},
	} {
		if got := s.Covers(c.key); got != c.want {
			t.Errorf("Covers(%+v) = %v", c.key, got)
		}
	}
}

func TestSetOverlaps(t *testing.T) {
	one := func(k Key, what What, ino uint64) *Set {
		var s Set
		s.AddIno(k, what, 1, ino)
		return &s
	}
	object := new(Set)
	object.AddObject(Object{0, 7}, Content, 1)
	for i, c := range []struct {
		a, b *Set
		want bool
	}{
		{one(Key{0, "d", "f"}, Content, 0), one(Key{0, "d", "f"}, Meta, 0), true},
		{one(Key{0, "d", "f"}, Content, 0), one(Key{0, "d", "g"}, Content, 0), false},
		{one(Key{0, "d", "f"}, Content, 0), one(Key{0, "d", ""}, Names, 0), true},
		{one(Key{0, "d/e", "f"}, Content, 0), one(Key{0, "d", ""}, Names, 0), false},
		{one(Key{0, "d/e", "f"}, Content, 0), one(Key{0, "d", ""}, Subtree, 0), true},
		{one(Key{0, "d/e", "f"}, Content, 0), one(Key{0, "", "d"}, Entry, 0), true},
		{one(Key{0, "d/e", "f"}, Content, 0), one(Key{0, "", "c"}, Entry, 0), false},
		{one(Key{0, "d", "f"}, Content, 7), object, true},
		{one(Key{0, "d", "f"}, Content, 8), object, false},
		{object, object, true},
	} {
		if c.a.Overlaps(c.b) != c.want || c.b.Overlaps(c.a) != c.want {
			t.Errorf("case %d: overlap is %v and %v, want %v", i, c.a.Overlaps(c.b), c.b.Overlaps(c.a), c.want)
		}
	}
}

// TestSetIsBounded adds far more than fits and checks that nothing is lost.
func TestSetIsBounded(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var s Set
	var keys []Key
	for i := range 200_000 {
		k := Key{Tree: r.IntN(2), Dir: fmt.Sprintf("a%d/b%d/c%d", r.IntN(40), r.IntN(40), r.IntN(60)), Name: fmt.Sprint("f", r.IntN(9))}
		if i%10 == 0 {
			k = Key{Dir: "many", Name: fmt.Sprint("n", i)}
		}
		s.AddIno(k, Entry, time.Duration(i), uint64(i))
		if i%500 == 0 {
			keys = append(keys, k)
		}
		if s.items > maxItems || len(s.dirs) > maxDirs || len(s.objects) > maxObjects {
			t.Fatalf("after %d: %d items, %d directories, %d objects", i, s.items, len(s.dirs), len(s.objects))
		}
	}
	for _, k := range keys {
		if !s.Covers(k) {
			t.Fatalf("lost %+v", k)
		}
	}
	count := 0
	for range s.All() {
		count++
	}
	if count != s.items {
		t.Fatalf("%d items, counted %d", s.items, count)
	}
	for i := range maxObjects + 1 {
		s.AddObject(Object{1, uint64(i + 1)}, Content, 1)
	}
	if !s.Covers(Key{1, "any/where", "x"}) {
		t.Fatal("too many objects must become a scan")
	}
}

func TestSetMerge(t *testing.T) {
	var a, b Set
	a.AddIno(Key{0, "", "x"}, Content, 1, 3)
	b.Add(Key{0, "", "x"}, Meta, 2)
	b.AddObject(Object{0, 9}, Meta, 4)
	a.Merge(&b)
	if it, _ := a.Get(Key{0, "", "x"}); it != (Item{Content | Meta, 2, 3}) || len(a.objects) != 1 || b.Len() != 2 {
		t.Fatalf("%+v, objects %v, other %d", it, a.objects, b.Len())
	}
}

func TestAncestor(t *testing.T) {
	for depth, want := range []string{"", "a", "a/bc", "a/bc/d"} {
		if got := ancestor("a/bc/d/e", depth); got != want || pathDepth(got) != depth {
			t.Errorf("ancestor at %d is %q", depth, got)
		}
	}
}

func BenchmarkSetAdd(b *testing.B) {
	dirs := make([]string, 1000)
	for i := range dirs {
		dirs[i] = fmt.Sprintf("some/where/d%d", i)
	}
	name := []byte("file-0")
	b.ReportAllocs()
	var s Set
	for i := range b.N {
		name[5] = byte('0' + i%10)
		if d := dirs[i/10%1000]; !s.addKnown(0, d, name, Content, 1, 1) {
			s.AddIno(Key{0, d, string(name)}, Content, 1, 1)
		}
	}
}
