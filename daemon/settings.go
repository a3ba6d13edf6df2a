package daemon

import (
	"context"
	"time"

	"repld/apply"
	"repld/capture"
	"repld/config"
	"repld/tree"
)

// What the packages on the data's way get of a group's configuration.

// captureSettings are the settings of capturing.
func captureSettings(live config.GroupLive) capture.Settings {
	return capture.Settings{
		Every: live.Barrier.Every, LateAfter: live.Barrier.LateAfter, RescanEvery: live.Rescan.Every,
		JournalLimit: int64(live.Journal.Limit),
	}
}

// applyLimits are the settings of applying.
func applyLimits(live config.GroupLive) apply.Limits {
	l := apply.Limits{Guard: int(live.Guard.Changed), History: apply.History{Keep: live.History.Keep, Limit: uint64(live.History.Limit)}}
	for _, t := range live.History.Every {
		l.History.Every = append(l.History.Every, apply.Thinning{Within: t.Until, Apart: t.Interval})
	}
	return l
}

// set takes over new settings.
func (p *sending) set(_ context.Context, live config.GroupLive) {
	p.speed.set(live.Bandwidth)
	p.capturer.Set(captureSettings(live))
}

// set takes over new settings.
func (s *receiving) set(ctx context.Context, live config.GroupLive) {
	s.receiver.SetJournalLimit(int64(live.Journal.Limit))
	if err := s.applier.SetLimits(ctx, applyLimits(live)); err != nil && ctx.Err() == nil {
		s.logger.Error("take over the limits of history and guard", "group", s.name, "error", err)
	}
}

// patternsOf says which names of a tree are not replicated, and which files only
// grow.
func patternsOf(t config.Tree) (excluded, grow *tree.Matcher, err error) {
	if excluded, err = tree.NewMatcher(t.Exclude); err != nil {
		return nil, nil, err
	}
	grow, err = tree.NewMatcher(t.AppendOnly)
	return excluded, grow, err
}

// foreignScan is how long a standby takes to look at each of its objects for what
// somebody else wrote.
const foreignScan = 15 * time.Minute
