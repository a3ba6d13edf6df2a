package daemon

import (
	"repld/capture"
	"repld/freeze"
)

// FreezeWatchdog is the command of this program that runs [freeze.Watch]. Nobody else has
// a use for it.
const FreezeWatchdog = "freeze-watchdog"

// self is this program, also after another version was put in its place.
const self = "/proc/self/exe"

// freezer makes a [freeze.Freezer] one for package capture.
type freezer struct{ *freeze.Freezer }

// Freeze implements [capture.Freezer].
func (f *freezer) Freeze() (capture.Frozen, error) {
	z, err := f.Freezer.Freeze()
	if err != nil {
		return nil, err
	}
	return z, nil
}

// openFreezer thaws what a former run has left frozen, and returns what freezes the
// group's application; nil if nothing does.
func (p *sending) openFreezer() (*freezer, error) {
	mark := p.file("frozen")
	group, err := freeze.Recover(mark)
	if err != nil {
		return nil, err
	}
	if group != "" {
		p.logger.Warn("a former run has ended while an application was frozen for a barrier; it was thawed now", "group", p.name, "control group", group)
	}
	conf := p.conf.Barrier.Freeze
	if conf.Cgroup == "" {
		return nil, nil
	}
	return &freezer{freeze.New(freeze.Options{Group: conf.Cgroup, Max: conf.Max, Mark: mark, Watchdog: []string{self, FreezeWatchdog}})}, nil
}
