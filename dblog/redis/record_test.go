package redis

import (
	"errors"
	"testing"
)

// TestOvertakenAnswer: an answer that was on its way while the server took another replication id
// doesn't bring the former one back as a third.
func TestOvertakenAnswer(t *testing.T) {
	s, err := NewSource(SourceOptions{Name: "main", DSN: "unix:///nowhere"})
	must(t, err)
	defer s.Close()
	see := func(id string, asked uint64) (record, error) {
		return s.see(info{"master_replid": id}, asked)
	}
	first, err := see("one", s.asked())
	must(t, err)
	early := s.asked() // Position asks, and the answer takes its time
	second, err := see("two", s.asked())
	must(t, err)
	if second.Chapter != first.Chapter+1 {
		t.Errorf("the second id is of chapter %d, the first of %d", second.Chapter, first.Chapter)
	}
	if r, err := see("one", early); !errors.Is(err, errOvertaken) {
		t.Errorf("the answer of before made %+v, error %v", r, err)
	}
	if r, err := see("two", early); err != nil || r != second {
		t.Errorf("an answer of before with the new id made %+v, error %v, want %+v", r, err, second)
	}
	third, err := see("one", s.asked())
	must(t, err)
	if third.Chapter != second.Chapter+1 {
		t.Errorf("an id that comes back is of chapter %d, want another one than %d", third.Chapter, second.Chapter)
	}
}
