package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes.
type Size int64

// Rate is a number of bytes per second.
type Rate int64

// units of sizes: decimal ones by the SI, binary ones by IEC 80000-13.
var units = []struct {
	name  string
	bytes float64
}{
	{"B", 1},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
}

var bitRates = []struct {
	name  string
	bytes float64 // per second
}{
	{"kbit/s", 1e3 / 8}, {"Mbit/s", 1e6 / 8}, {"Gbit/s", 1e9 / 8},
}

const (
	wantSize = "a size such as 8GiB, 50MB or 4096 (bytes)"
	wantRate = "a rate such as 50MB/s, 20MiB/s or 400Mbit/s, or unlimited"
)

// ParseSize reads a size above 0: "8GiB", "1.5 TB", "50MB", or bytes without a unit.
func ParseSize(s string) (Size, error) {
	number, unit := cutNumber(s)
	scale := 0.0
	for _, u := range units {
		if unit == u.name || unit == "" {
			scale = u.bytes
			break
		}
	}
	if n, ok := multiply(number, scale); ok {
		return Size(n), nil
	}
	return 0, &valueError{found: s, want: wantSize, hint: unitHint(number, unit, "")}
}

// ParseRate reads a rate: a size "/s", bits as "kbit/s", "Mbit/s", "Gbit/s", or
// "unlimited", which is 0.
func ParseRate(s string) (Rate, error) {
	if s == "unlimited" {
		return 0, nil
	}
	number, unit := cutNumber(s)
	for _, u := range bitRates {
		if unit == u.name {
			if n, ok := multiply(number, u.bytes); ok {
				return Rate(n), nil
			}
		}
	}
	size, perSecond := strings.CutSuffix(s, "/s")
	if perSecond && unit != "/s" {
		if n, err := ParseSize(size); err == nil {
			return Rate(n), nil
		}
	}
	hint := ""
	switch _, err := ParseSize(s); {
	case err == nil:
		hint = "a rate ends in /s"
	case unit == "/s" && number != "":
		hint = fmt.Sprintf("did you mean %sB/s?", number)
	case perSecond:
		hint = unitHint(number, strings.TrimSuffix(unit, "/s"), "/s")
	}
	return 0, &valueError{found: s, want: wantRate, hint: hint}
}

// cutNumber splits "1.5 TB" into "1.5" and "TB".
func cutNumber(s string) (number, unit string) {
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.') {
		i++
	}
	return s[:i], strings.TrimPrefix(s[i:], " ")
}

// multiply returns number × scale as whole bytes, if that is 1 or more and fits.
func multiply(number string, scale float64) (int64, bool) {
	if scale == 0 {
		return 0, false
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && scale == 1 {
		return n, n > 0
	}
	f, err := strconv.ParseFloat(number, 64)
	f *= scale
	if err != nil || f < 1 || f >= math.MaxInt64 {
		return 0, false
	}
	return int64(f), true
}

// unitHint says which units an unknown one may have been meant to be; per ends
// them.
func unitHint(number, unit, per string) string {
	if number == "" || unit == "" {
		return ""
	}
	for _, u := range units {
		if strings.EqualFold(unit, u.name) {
			if unit == u.name {
				return "" // the number is what is wrong
			}
			return fmt.Sprintf("did you mean %s%s%s?", number, u.name, per)
		}
	}
	if len(unit) == 1 && strings.Contains("KMGT", strings.ToUpper(unit)) {
		as := number + strings.ToUpper(unit)
		return fmt.Sprintf("did you mean %siB%s (powers of 1024) or %sB%s (of 1000)?", as, per, as, per)
	}
	return ""
}

// String returns the size in the largest binary or decimal unit that is exact.
// [ParseSize] reads it.
func (s Size) String() string {
	best, name := int64(1), ""
	for _, u := range units {
		if n := int64(u.bytes); n > best && s != 0 && int64(s)%n == 0 {
			best, name = n, u.name
		}
	}
	return strconv.FormatInt(int64(s)/best, 10) + name
}

// String returns the rate in bytes per second, or "unlimited" for 0. [ParseRate]
// reads it.
func (r Rate) String() string {
	if r == 0 {
		return "unlimited"
	}
	text := Size(r).String()
	if !strings.HasSuffix(text, "B") {
		text += "B"
	}
	return text + "/s"
}
