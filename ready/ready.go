package ready

import (
	"repld/health"
	"repld/parity"
)

// Ready is the readiness report.
type Ready struct {
	Ready  bool    `json:"ready"` // every critical check is well
	Node   string  `json:"node"`
	Peer   string  `json:"peer,omitempty"`
	To     string  `json:"to,omitempty"` // the node that would serve after a cutover
	Checks []Check `json:"checks"`
	// Parity is what differs between the nodes; absent where one of them is not known.
	Parity   []parity.Difference `json:"parity"`
	Estimate *Estimate           `json:"estimate,omitempty"` // absent: none was measured yet
}

// Check is one thing that was looked at.
type Check struct {
	Name string `json:"name"` // "link", "hooks", "lag sounz": the same in each report
	OK   bool   `json:"ok"`
	// Severity says what it means if the check is not well: critical keeps a cutover from
	// working, a warning does not.
	Severity health.Severity `json:"severity"`
	Text     string          `json:"text"`           // what was found, and what was wanted if it isn't well
	Hint     string          `json:"hint,omitempty"` // what to do, if it isn't well
}

// Failed returns the checks of a severity that are not well.
func (r *Ready) Failed(s health.Severity) []Check {
	var found []Check
	for _, c := range r.Checks {
		if !c.OK && c.Severity == s {
			found = append(found, c)
		}
	}
	return found
}
