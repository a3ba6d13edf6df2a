package timing

import (
	"errors"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// Whatever is accepted obeys the formula of the package's doc, whatever is refused
// can't.
func TestFormula(t *testing.T) {
	accepted, refused := 0, 0
	for ttl := time.Second; ttl <= MostTTL; ttl += time.Second {
		for demote := time.Duration(0); demote <= ttl+time.Second; demote += 250 * time.Millisecond {
			got, err := Of(ttl, demote)
			if err != nil {
				refused++
				var e *Error
				if !errors.As(err, &e) || e.Found == "" || e.Want == "" {
					t.Fatalf("ttl %v, demote %v: the error is %v", ttl, demote, err)
				}
				d := demote
				if d == 0 {
					d = ttl / 2
				}
				if d >= LeastDemote && ttl-ttl/100-Kill-d >= 4*LeastKeepalive {
					t.Fatalf("ttl %v, demote %v: refused though it holds: %v", ttl, demote, err)
				}
				continue
			}
			accepted++
			switch {
			case got.Hold+got.Demote+got.Kill+got.Drift > ttl:
				t.Fatalf("ttl %v, demote %v: %+v is longer than the lease", ttl, demote, got)
			case 2*got.Keepalive+got.Attempt >= got.Hold:
				t.Fatalf("ttl %v, demote %v: %+v loses the lease by one attempt that fails", ttl, demote, got)
			case got.Hold+got.Watchdog+got.Drift > ttl || got.Watchdog < got.Demote || got.Watchdog < time.Second:
				t.Fatalf("ttl %v, demote %v: %+v has a wrong watchdog", ttl, demote, got)
			case got.Keepalive < LeastKeepalive || got.Demote < LeastDemote:
				t.Fatalf("ttl %v, demote %v: %+v is below the limits", ttl, demote, got)
			case demote != 0 && got.Demote != demote:
				t.Fatalf("ttl %v, demote %v: got %v", ttl, demote, got.Demote)
			}
		}
	}
	t.Logf("%d accepted, %d refused", accepted, refused)
}

func TestErrorsSayWhatWouldDo(t *testing.T) {
	for _, c := range []struct {
		ttl, demote time.Duration
		demoteWrong bool
		text        string
	}{
		{10 * time.Second, 9 * time.Second, true, "found 9s of a ttl of 10s, want at most 7.9s, so that what is left is noticed, or a ttl of at least 12s"},
		{10 * time.Second, 500 * time.Millisecond, true, "found 500ms, want at least 1s"},
		{4 * time.Second, 0, false, "found 4s, want at least 5s: a node must notice that its lease is gone, and stop, before it ends"},
		{3 * time.Second, 10 * time.Second, false, "found 3s, want at least 13s: a node must notice that its lease is gone, and stop, before it ends"},
		{1500 * time.Millisecond, 0, false, "found 1.5s, want whole seconds, at most 4m0s"},
		{time.Hour, 0, false, "found 1h0m0s, want whole seconds, at most 4m0s"},
		{0, 0, false, "found 0s, want whole seconds, at most 4m0s"},
	} {
		_, err := Of(c.ttl, c.demote)
		var e *Error
		if !errors.As(err, &e) || e.Error() != c.text || e.Demote != c.demoteWrong {
			t.Errorf("ttl %v, demote %v:\nfound %v\nwant  %s", c.ttl, c.demote, err, c.text)
		}
	}
	if _, err := Of(12*time.Second, 9*time.Second); err != nil {
		t.Errorf("what an error says would do: %v", err)
	}
}

// The table for operators says what the formula does.
func TestDocumentedTable(t *testing.T) {
	text, err := os.ReadFile("../../docs/ROLES.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (\d+s)[^|]*\| ([\d.]+s)[^|]*\| ([\d.]+) s \| ([\d.]+) s \| (\d+) s \|$`)
	rows := row.FindAllStringSubmatch(string(text), -1)
	if len(rows) < 3 {
		t.Fatalf("found %d rows, want the table of ttl and demote_within", len(rows))
	}
	for _, r := range rows {
		var d [2]time.Duration
		for i := range d {
			if d[i], err = time.ParseDuration(r[1+i]); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Of(d[0], d[1])
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []time.Duration{got.Hold, got.Keepalive, got.Watchdog} {
			found, err := strconv.ParseFloat(r[3+i], 64)
			if off := want.Seconds() - found; err != nil || off > 0.0051 || off < -0.0051 {
				t.Errorf("ttl %s: found %s s, want %v", r[1], r[3+i], want)
			}
		}
	}
}
