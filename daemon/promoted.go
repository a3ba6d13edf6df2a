package daemon

import (
	"repld/change"
)

// promotedFile says at which barriers this node was promoted last: up to those its
// data and that of the former production node are the same.
type promotedFile struct {
	Epoch  change.Epoch      `yaml:"epoch" json:"epoch"`
	Groups []promotedBarrier `yaml:"groups" json:"groups"`
}

type promotedBarrier struct {
	Group   string           `yaml:"group" json:"group"`
	Barrier change.BarrierID `yaml:"barrier" json:"barrier"`
}

// promotedName is the name of the promotedFile.
const promotedName = "promoted.yaml"

// promotedAt reads the file; the zero value if there is none.
func (n *node) promotedAt() promotedFile {
	var f promotedFile
	if _, err := n.state.load(promotedName, &f); err != nil {
		n.logger.Error("read at which barriers this node was promoted", "error", err)
	}
	return f
}
