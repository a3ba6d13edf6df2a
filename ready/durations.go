package ready

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// DurationsFormat is the version of what [Durations.Marshal] writes.
const DurationsFormat = 1

// KeptRuns is how many runs are kept, the newest.
const KeptRuns = 32

// maxDurations is the largest file that is read, in bytes.
const maxDurations = 256 << 10

// Durations are how long the last plans have taken, for <state>/durations.json.
type Durations struct {
	Format int   `json:"format"`
	Runs   []Run `json:"runs"` // the newest last
}

// Run is one plan that was carried out to its end.
type Run struct {
	At    time.Time `json:"at"`   // of its end; wall clock, UTC
	Kind  string    `json:"kind"` // cutover, failover, …
	Epoch uint64    `json:"epoch"`
	// Seconds is how long it took by the monotonic clock, from the order until the other
	// node was promoted.
	Seconds float64   `json:"seconds"`
	Steps   []Elapsed `json:"steps"`
}

// Elapsed is one step of a plan.
type Elapsed struct {
	Step    string  `json:"step"`
	Seconds float64 `json:"seconds"`
}

// Add appends a run, and forgets the oldest above [KeptRuns].
func (d *Durations) Add(r Run) {
	d.Runs = append(d.Runs, r)
	if more := len(d.Runs) - KeptRuns; more > 0 {
		d.Runs = slices.Clone(d.Runs[more:])
	}
}

// Marshal returns d as JSON.
func (d *Durations) Marshal() ([]byte, error) {
	d.Format = DurationsFormat
	data, err := json.MarshalIndent(d, "", "  ")
	return append(data, '\n'), err
}

// UnmarshalDurations reads what Marshal has written.
func UnmarshalDurations(data []byte) (*Durations, error) {
	if len(data) > maxDurations {
		return nil, fmt.Errorf("durations have %d bytes, want at most %d", len(data), maxDurations)
	}
	var d Durations
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("durations can't be read: %w", err)
	}
	if d.Format != DurationsFormat {
		return nil, fmt.Errorf("durations: found format %d, want %d", d.Format, DurationsFormat)
	}
	for _, r := range d.Runs {
		if r.Seconds < 0 || slices.ContainsFunc(r.Steps, func(e Elapsed) bool { return e.Seconds < 0 }) {
			return nil, fmt.Errorf("durations: found a negative one of %v", r.At)
		}
	}
	if more := len(d.Runs) - KeptRuns; more > 0 {
		d.Runs = d.Runs[more:]
	}
	return &d, nil
}

// Estimate is how long a cutover would take.
type Estimate struct {
	Seconds float64 `json:"seconds"`      // the median of those measured
	Longest float64 `json:"most_seconds"` // the longest of them
	From    int     `json:"from"`         // how many were measured
	// Steps are the medians of the steps, in the order in which the newest run had them.
	Steps []Elapsed `json:"steps"`
}

// estimated is how many of the newest cutovers an estimate is made from.
const estimated = 8

// EstimateOf computes an estimate from the cutovers among runs, nil if there are none.
func EstimateOf(runs []Run) *Estimate {
	cutovers := slices.DeleteFunc(slices.Clone(runs), func(r Run) bool { return r.Kind != "cutover" })
	if len(cutovers) == 0 {
		return nil
	}
	slices.SortStableFunc(cutovers, func(a, b Run) int { return a.At.Compare(b.At) })
	cutovers = cutovers[max(0, len(cutovers)-estimated):]
	e := &Estimate{From: len(cutovers), Steps: []Elapsed{}}
	var totals []float64
	steps := map[string][]float64{}
	for _, r := range cutovers {
		totals = append(totals, r.Seconds)
		e.Longest = max(e.Longest, r.Seconds)
		for _, s := range r.Steps {
			steps[s.Step] = append(steps[s.Step], s.Seconds)
		}
	}
	e.Seconds = median(totals)
	for _, s := range cutovers[len(cutovers)-1].Steps {
		e.Steps = append(e.Steps, Elapsed{s.Step, median(steps[s.Step])})
	}
	return e
}

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	if n%2 == 1 {
		return values[n/2]
	}
	return (values[n/2-1] + values[n/2]) / 2
}
