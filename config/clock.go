package config

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// TimeOfDay is a local time in minutes since midnight, up to 24:00.
type TimeOfDay int

const (
	day          = 24 * time.Hour
	midnight     = TimeOfDay(24 * 60) // the end of a day
	wantDuration = "a duration such as 500ms, 10s, 90m, 24h or 7d"
	wantTime     = `a local time from "00:00" to "24:00"`
)

var (
	days  = regexp.MustCompile(`^([0-9]{1,6})d`)
	clock = regexp.MustCompile(`^([0-9]{2}):([0-9]{2})$`)
)

// valueError is a scalar that doesn't mean what it has to.
type valueError struct{ found, want, hint string }

func (e *valueError) Error() string { return fmt.Sprintf("found %s, want %s", quote(e.found), e.want) }

// quote shows what was found; a long text is cut.
func quote(s string) string {
	if s == "" {
		return "an empty text"
	}
	const most = 80
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}

// ParseDuration reads a duration above 0 in the syntax of [time.ParseDuration],
// before which whole days may stand: "7d", "1d12h".
func ParseDuration(s string) (time.Duration, error) {
	total, rest := time.Duration(0), s
	if m := days.FindStringSubmatch(s); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n > math.MaxInt64/int(day) {
			return 0, &valueError{found: s, want: wantDuration}
		}
		total, rest = time.Duration(n)*day, s[len(m[0]):]
	}
	if rest != "" || total == 0 {
		d, err := time.ParseDuration(rest)
		if err == nil && d < 0 {
			err = errors.New("negative")
		}
		if err != nil || total+d <= 0 {
			e := &valueError{found: s, want: wantDuration}
			if _, isNumber := strconv.ParseUint(s, 10, 64); isNumber == nil && s != "0" {
				e.hint = fmt.Sprintf("did you mean %ss?", s)
			}
			return 0, e
		}
		total += d
	}
	return total, nil
}

// short returns d without the parts that are zero: "24h", not "24h0m0s".
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// ParseTimeOfDay reads "08:00"; "24:00" is the end of the day.
func ParseTimeOfDay(s string) (TimeOfDay, error) {
	if m := clock.FindStringSubmatch(s); m != nil {
		hours, _ := strconv.Atoi(m[1]) // two digits
		minutes, _ := strconv.Atoi(m[2])
		if t := TimeOfDay(hours*60 + minutes); minutes < 60 && t <= midnight {
			return t, nil
		}
	}
	return 0, &valueError{found: s, want: wantTime}
}

// String is what [ParseTimeOfDay] reads.
func (t TimeOfDay) String() string { return fmt.Sprintf("%02d:%02d", t/60, t%60) }

// Holds reports whether t is in the window.
func (w Window) Holds(t TimeOfDay) bool {
	if w.From < w.To {
		return w.From <= t && t < w.To
	}
	return t >= w.From || t < w.To
}

// overlaps reports whether some minute is in both windows.
func (w Window) overlaps(v Window) bool { return w.Holds(v.From) || v.Holds(w.From) }

// At returns the limit at an instant, by its location's wall clock; 0 = none.
func (b Bandwidth) At(t time.Time) Rate {
	now := TimeOfDay(t.Hour()*60 + t.Minute())
	for _, w := range b.Windows {
		if w.Holds(now) {
			return w.Limit
		}
	}
	return b.Limit
}
