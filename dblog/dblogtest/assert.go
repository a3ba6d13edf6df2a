package dblogtest

import (
	"errors"
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"repld/health"
)

// Parallel runs more tests at once than there are cores, unless the command line says how
// many: they wait for servers most of the time. It is for TestMain.
func Parallel(most string) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", most) // the flag is there
	}
}

// Must ends the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WantErr ends the test unless err is want.
func WantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// WantCondition ends the test unless there is a condition of that code.
func WantCondition(t testing.TB, list []health.Condition, want health.Code) {
	t.Helper()
	for _, c := range list {
		if c.Code == want {
			return
		}
	}
	t.Fatalf("got conditions %v, want %s among them", list, want)
}

// WantText ends the test unless there is a condition of that code with that text in it.
func WantText(t testing.TB, list []health.Condition, code health.Code, text string) {
	t.Helper()
	for _, c := range list {
		if c.Code == code && strings.Contains(c.Text, text) {
			return
		}
	}
	t.Fatalf("got conditions %v, want %s with %q", list, code, text)
}

// Eventually waits until something is so, and ends the test after 30 s.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// Percentile returns the time that a share q of the times doesn't exceed, 0 if there are
// none. It sorts them.
func Percentile(list []time.Duration, q float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(len(list)-1, int(q*float64(len(list))))].Round(100 * time.Microsecond)
}
