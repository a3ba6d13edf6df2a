package config

import (
	"math/bits"
	"strconv"
	"strings"
)

// Percent is a share in percent, above 0 and at most 100.
type Percent float64

// Reserve is how much of a disk is kept free.
type Reserve struct {
	Percent Percent // of the disk's size, but at least 1 GiB; if Bytes is 0
	Bytes   Size    // as it stands; 0 = Percent counts
}

const (
	leastReserve = 1 << 30
	wantPercent  = "a percentage above 0% and up to 100%"
	wantReserve  = "a percentage such as 5%, below 100%, or a size such as 20GiB"
)

// ParsePercent reads "50%" or "2.5%".
func ParsePercent(s string) (Percent, error) {
	number, unit := cutNumber(s)
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || unit != "%" || f <= 0 || f > 100 {
		e := &valueError{found: s, want: wantPercent}
		if unit == "" && err == nil {
			e.hint = "did you mean " + number + "%?"
		}
		return 0, e
	}
	return Percent(f), nil
}

// ParseReserve reads a percentage below 100% or a size.
func ParseReserve(s string) (Reserve, error) {
	if strings.HasSuffix(s, "%") {
		if p, err := ParsePercent(s); err == nil && p < 100 {
			return Reserve{Percent: p}, nil
		}
	} else if size, err := ParseSize(s); err == nil {
		return Reserve{Bytes: size}, nil
	}
	return Reserve{}, &valueError{found: s, want: wantReserve}
}

// Of returns how many bytes are kept free on a disk of this many bytes.
func (r Reserve) Of(disk uint64) uint64 {
	if r.Bytes > 0 {
		return uint64(r.Bytes)
	}
	const parts = 1 << 20 // of a percent: exact enough, and in whole numbers
	high, low := bits.Mul64(disk, uint64(float64(r.Percent)*parts))
	share, _ := bits.Div64(high, low, 100*parts)
	return max(leastReserve, share)
}

// String is what [ParsePercent] reads.
func (p Percent) String() string { return strconv.FormatFloat(float64(p), 'f', -1, 64) + "%" }

// String is what [ParseReserve] reads.
func (r Reserve) String() string {
	if r.Bytes > 0 {
		return r.Bytes.String()
	}
	return r.Percent.String()
}
