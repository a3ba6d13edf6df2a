package control

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Time is a moment, in JSON as RFC 3339 in UTC with as many digits of the
// nanoseconds as it has. The zero Time stands for "unknown".
type Time struct{ time.Time }

// TimeOf converts t.
func TimeOf(t time.Time) Time { return Time{t} }

// MarshalJSON writes t in UTC.
func (t Time) MarshalJSON() ([]byte, error) { return t.UTC().MarshalJSON() }

// Seconds is a length of time, in JSON as a number of seconds.
type Seconds time.Duration

// MarshalJSON writes s as a decimal number without an exponent.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Seconds(), 'f', -1, 64), nil
}

// UnmarshalJSON is the inverse of [Seconds.MarshalJSON]. A number that no
// [time.Duration] can hold is an error.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var v float64
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	ns := math.Round(v * float64(time.Second))
	if math.Abs(ns) >= math.MaxInt64 {
		return fmt.Errorf("%s seconds: want less than 292 years", b)
	}
	*s = Seconds(ns)
	return nil
}

// Duration converts s.
func (s Seconds) Duration() time.Duration { return time.Duration(s) }
